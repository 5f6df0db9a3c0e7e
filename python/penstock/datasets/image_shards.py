"""Images in files of many: tar archives, and what `penstock.pack` makes of images."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from penstock import _core
from penstock.datasets.base import Rows
from penstock.datasets.image_files import without
from penstock.datasets.shards import PACK_MANIFEST, ShardDataset, pack_file, resolve_paths
from penstock.datasets.tar_images import kept_archives, read_archives
from penstock.errors import ArgumentError, FormatError, MissingFileError, SchemaError, unreadable
from penstock.table import Structure, Table

__all__ = ["ImageShards", "Images", "image_shards", "key_of", "keys_of", "names_in", "without_images"]

Images: TypeAlias = "_core.FileIndex | _core.ImageExtents"
"""Where images lie: in files of their own, or in files of many."""

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")


@dataclass(frozen=True)
class ImageShards:
    """What such files hold.

    Attributes:
        root: The folder of a pack; of archives "".
        images: Where they lie.
        targets: Class of each, shape (images,), int64; None: there are none.
        classes: Names of the classes, where they are known.
    """

    root: str
    images: _core.ImageExtents
    targets: Rows | None
    classes: list[str]


def image_shards(
    source: Any, index: str | os.PathLike[str] | None, *, has_labels: bool
) -> ImageShards | None:
    """What is in tar archives or in a pack; None where the source is neither.

    Args:
        source: What `ImageDataset` was given.
        index: A file to keep what the archives' headers say.
        has_labels: Whether labels are known: those in the files do not matter.

    Raises:
        ArgumentError: The archives are compressed; the index file is something else.
        FormatError: An archive is none, cut short or damaged; a class is no number; a pack is not of images.
        MissingFileError: No file matches a pattern; there is no image.
        SchemaError: Some images have a class, and others none.
        ShardError: A file cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        path = os.path.expanduser(os.fspath(source))
        if os.path.isfile(os.path.join(path, PACK_MANIFEST)):
            if index is not None:
                raise ArgumentError("a pack needs no index file")
            return _in_pack(path, has_labels)
        if os.path.isdir(path) or not _are_archives([path]):
            return None
        paths = _matching(path)
    elif isinstance(source, Sequence) and source and _are_archives(source):
        paths = [os.path.abspath(os.path.expanduser(os.fspath(path))) for path in source]
    else:
        return None
    found = read_archives(paths) if index is None else kept_archives(paths, os.path.abspath(index))
    return ImageShards("", found.images(), None if has_labels else found.classes(), [])


def names_in(images: _core.ImageExtents) -> list[str]:
    """What images are called in their files."""
    *_, names, ends = images.state
    return [os.fsdecode(names[begin:end]) for begin, end in pairwise([0, *ends.tolist()])]


def key_of(name: str) -> str:
    """What a sample is called: its image's name up to the last dot.

    That is webdataset's key, but where names have more dots: there it would be that of several images.
    """
    return os.path.splitext(name)[0]


def keys_of(name: str) -> tuple[str, ...]:
    """Under which an image may stand in a mapping."""
    key, last = key_of(name), name.rpartition("/")[2]
    return key, name, key_of(last), last


def without_images(images: Images, left_out: Sequence[int]) -> Images:
    """The same images but for these."""
    if isinstance(images, _core.FileIndex):
        return without(images, left_out)
    paths, identities, rows, offsets, sizes, names, ends = images.state
    shards = np.delete(np.repeat(np.arange(len(rows)), rows), left_out)
    begins = np.concatenate([[0], ends[:-1]])
    kept = np.delete(np.arange(len(ends)), left_out)
    texts = [names[begins[row] : ends[row]] for row in kept]
    return _core.ImageExtents(
        paths,
        identities,
        np.bincount(shards, minlength=len(rows)),
        offsets[kept],
        sizes[kept],
        b"".join(texts),
        np.cumsum([len(text) for text in texts]),
    )


def _are_archives(paths: Iterable[str | os.PathLike[str]]) -> bool:
    """Whether all are named like tar archives.

    Raises:
        ArgumentError: One is compressed.
    """
    for path in (os.fspath(each) for each in paths):
        if path.lower().endswith(_COMPRESSED):
            raise ArgumentError(
                "a compressed archive cannot be read where it lies",
                path=path,
                hint="Uncompress it: JPEGs and PNGs hardly get smaller.",
            )
        if not path.lower().endswith(".tar"):
            return False
    return True


def _matching(path: str) -> list[str]:
    """The files of a pattern, sorted; or the one of that name.

    Raises:
        MissingFileError: No file matches.
    """
    try:
        return resolve_paths(path, suffixes=(".tar",))
    except SchemaError as error:
        raise MissingFileError("no tar file is there", path=path) from error


# --- packs -------------------------------------------------------------------------------------------------


def _in_pack(folder: str, has_labels: bool) -> ImageShards:
    """The images that `penstock.pack` has put into a folder, with their names and labels."""
    path = os.path.join(folder, PACK_MANIFEST)
    try:
        with open(path, encoding="utf-8") as file:
            plan = json.load(file)
        rows = np.array(plan["rows"], np.int64)
        columns = [column for column in plan["columns"] if column["encoded"]]
        is_labelled = any(column["name"] == "label" for column in plan["columns"])
        classes = [str(name) for name in plan["classes"] or ()]
        if not columns:
            raise FormatError("this is no pack of images", path=path)
        encoded, offsets = (_pack_column(folder, plan, columns[0], part) for part in ("", "_offsets"))
    except FormatError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError("this is no manifest of a pack", path=path, actual=repr(error)) from error
    names, name_ends = (_array(os.path.join(folder, "pack", f"{name}.npy")) for name in ("ids", "id_offsets"))
    shards = _core.byte_shards(encoded)
    images = _core.ImageExtents(
        [shard[0] for shard in shards],
        [shard[1] for shard in shards],
        rows,
        *_extents(offsets, rows, [shard[2] for shard in shards]),
        names.tobytes(),
        name_ends[1:],
    )
    targets = ShardDataset(folder, fields="label").targets if is_labelled and not has_labels else None
    return ImageShards(folder, images, targets, classes if targets is not None else [])


def _pack_column(folder: str, plan: Any, column: Any, part: str) -> _core.Column:
    count = len(plan["rows"])
    paths = [
        os.path.join(folder, pack_file(plan["format"], column["folder"] + part, number, count))
        for number in range(count)
    ]
    files = _core.FileSet([os.fsencode(os.path.abspath(path)) for path in paths], None, "read")
    name = column["name"] + part
    return files.column(files.names[0] if len(files.names) == 1 else name, name)


def _extents(column: _core.Column, rows: Rows, begins: Sequence[int]) -> tuple[Rows, Rows]:
    """Offset in its file and size of each image, by the offsets in a pack, from 0 in each shard."""
    table = Table(_core.Table([column]), Structure("tensor", ("offsets",)))
    ends = table.gather(np.arange(column.num_rows))[0].to(torch.int64).numpy()
    if len(ends) != rows.sum() + len(rows):
        raise FormatError(
            "the pack has other offsets than images",
            expected=f"{rows.sum() + len(rows)} of them",
            actual=str(len(ends)),
        )
    edges = np.cumsum(rows + 1)
    first = np.delete(ends, edges - 1)
    last = np.delete(ends, edges - rows - 1)
    return first + np.repeat(np.array(begins, np.int64), rows), last - first


def _array(path: str) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise FormatError("these are no names of a pack", path=path) from error
    return array
