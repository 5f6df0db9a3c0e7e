"""Images in tar archives as webdataset writes them: what the headers say, and where that is kept."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock import _core
from penstock.datasets.base import Rows
from penstock.datasets.image_files import EXTENSIONS
from penstock.errors import ArgumentError, MissingFileError, SchemaError, ShardError, unreadable
from penstock.progress import steps

__all__ = ["Archives", "kept_archives", "read_archives"]

_ARCHIVES_AT_ONCE = 64
_ARRAYS = ("rows", "name_ends", "offsets", "sizes", "labels", "has_labels")
_INDEX = b"penstock tar index 1"
_RULE = 2  # of what is a sample: an index by another is made anew


@dataclass(frozen=True)
class Archives:
    """What the headers of tar archives say: arrays for the images of all, one archive after the other."""

    paths: Sequence[str]
    identities: Sequence[tuple[int, int, int, int]]  # device, inode, size, time of change
    rows: Rows  # of each archive
    names: bytes
    name_ends: Rows
    offsets: Rows
    sizes: Rows
    labels: Rows
    has_labels: npt.NDArray[np.bool_]

    def images(self) -> _core.ImageExtents:
        """The images alone.

        Raises:
            MissingFileError: There is none.
        """
        if not len(self.offsets):
            raise MissingFileError(
                "no image is in the archives",
                path=self.paths[0],
                expected=f"members like *{', *'.join(EXTENSIONS)}",
            )
        return _core.ImageExtents(
            [os.fsencode(path) for path in self.paths],
            self.identities,
            self.rows,
            self.offsets,
            self.sizes,
            self.names,
            self.name_ends,
        )

    def classes(self) -> Rows | None:
        """The class of each, shape (images,), int64; None: there are none.

        Raises:
            SchemaError: Some have one.
        """
        if self.has_labels.all():
            return self.labels
        if not self.has_labels.any():
            return None
        row = int(np.flatnonzero(~self.has_labels)[0])
        path, name = self.images().place(row)
        raise SchemaError(
            f"image {os.fsdecode(name)!r}: it has no class, and others have",
            path=os.fsdecode(path),
            row=row,
            expected="a .cls member next to each image, or to none",
            hint="labels= gives labels of your own.",
        )


def read_archives(paths: Sequence[str]) -> Archives:
    """Read all headers, by all threads.

    Raises:
        FormatError: An archive is none, cut short or damaged; a class is no number.
        ShardError: One cannot be read.
    """
    found: list[Any] = []
    for begin, end in steps(len(paths), _ARCHIVES_AT_ONCE, "reading headers", " archives"):
        found += _core.tar_images([os.fsencode(path) for path in paths[begin:end]], EXTENSIONS)
    identities, names, ends, offsets, sizes, labels, has_labels = zip(*found, strict=True)
    firsts = np.cumsum([0, *map(len, names)])
    return Archives(
        paths,
        identities,
        np.array([len(each) for each in offsets], np.int64),
        b"".join(names),
        np.concatenate([each + first for each, first in zip(ends, firsts, strict=False)]),
        np.concatenate(offsets),
        np.concatenate(sizes),
        np.concatenate(labels),
        np.concatenate(has_labels),
    )


def kept_archives(paths: Sequence[str], path: str) -> Archives:
    """What an index file says, where the archives are still the same; otherwise it is made anew.

    Raises:
        FormatError: As `read_archives`.
        ArgumentError: It is something else than an index.
        ShardError: It cannot be read or written.
    """
    known = _known(paths, path)
    if known is not None:
        return known
    found = read_archives(paths)
    arrays = {
        "what": _bytes(_INDEX),
        "recipe": _bytes(_recipe(paths, [identity[2:] for identity in found.identities])),
        "names": _bytes(found.names),
        **{name: getattr(found, name) for name in _ARRAYS},
    }
    try:
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), delete=False) as file:
            try:
                np.savez(file, **arrays)
                os.chmod(file.fileno(), 0o644)
                os.replace(file.name, path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(file.name)
                raise
    except OSError as error:
        raise ShardError(
            f"the index file cannot be written: {error.strerror}", path=path, errno=error.errno
        ) from error
    return found


def _known(paths: Sequence[str], path: str) -> Archives | None:
    identities = [_identity(each) for each in paths]
    try:
        if not _is_zip(path):
            raise _no_index(path)
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            if "what" not in file or file["what"].tobytes() != _INDEX:
                raise _no_index(path)
            if file["recipe"].tobytes() != _recipe(paths, [identity[2:] for identity in identities]):
                return None
            arrays = {name: file[name] for name in _ARRAYS}
            return Archives(paths, identities, names=file["names"].tobytes(), **arrays)
    except FileNotFoundError:
        return None
    except ArgumentError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        warnings.warn(f"{path}: the index file is damaged: {error}. It is made anew", stacklevel=5)
        return None


def _no_index(path: str) -> ArgumentError:
    return ArgumentError("this is no index file", path=path, hint="Name another one, or remove it.")


def _is_zip(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


def _identity(path: str) -> tuple[int, int, int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise unreadable(path, error) from error
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _recipe(paths: Sequence[str], stamps: Sequence[tuple[int, ...]]) -> bytes:
    """Of which archives, as they were, and what was looked for in them."""
    return json.dumps([_RULE, EXTENSIONS, list(paths), stamps]).encode()


def _bytes(content: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(content, np.uint8)
