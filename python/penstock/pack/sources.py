"""What is packed: the samples of a dataset, or image files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from penstock.datasets import ConcatDataset, Dataset, FileDataset, ShardDataset
from penstock.datasets.image_files import EXTENSIONS
from penstock.datasets.shards import SUFFIXES
from penstock.errors import ArgumentError, SchemaError, ShardError, require_choice
from penstock.pack.disk import Bytes, PathLike, cannot_be_read, reading
from penstock.pack.plan import Column, Offsets, ends_of, folders_for
from penstock.pack.running import Pool

__all__ = ["Kind", "Source", "open_source", "require_apart"]

Kind: TypeAlias = Literal["files", "shards", "images"]

_IMAGES = (*EXTENSIONS, ".gif")  # torchvision takes no GIFs; a pack keeps the bytes of any file


class Source(Protocol):
    """Samples in an order, of one encoded column at most."""

    sample: str  # "tensor", "tuple" or "dict"

    @property
    def columns(self) -> tuple[Column, ...]: ...  # noqa: D102
    @property
    def sizes(self) -> Offsets | None:
        """Bytes of each encoded row, shape (samples,)."""

    @property
    def ids(self) -> Sequence[str] | None:
        """Their names."""

    @property
    def classes(self) -> Sequence[str] | None:
        """Names of the labels."""

    def __len__(self) -> int: ...

    def read(self, begin: int, end: int, pool: Pool) -> list[Bytes]:
        """Rows of each column, shape (rows, row_bytes); encoded ones end to end, shape (bytes,)."""


class DatasetSource:
    """The samples of a dataset, as they come in batches."""

    def __init__(self, dataset: Dataset) -> None:
        if dataset.sample_transform is not None or dataset.table.is_random:
            raise SchemaError(
                "a dataset with a transform cannot be packed", hint="Pack it without, and open it with one."
            )
        if dataset._is_overridden:
            raise SchemaError(
                "a dataset with a __getitem__ of its own cannot be packed",
                actual=type(dataset).__name__,
                hint="A pack holds what the files hold: pack the dataset that it is derived from.",
            )
        _require_fixed(dataset)
        self.dataset = dataset
        self.sizes = None
        self.ids = _ids_of(dataset)
        self.classes: Sequence[str] | None = getattr(dataset, "classes", None)
        self.sample = _kind_of_sample(dataset.gather(range(min(1, len(dataset)))))
        self.columns = tuple(
            Column(field.name, folder, str(field.dtype).removeprefix("torch."), tuple(field.shape))
            for field, folder in zip(dataset.schema, folders_for(dataset.fields), strict=True)
        )
        if self.ids is not None and len(self.ids) != len(dataset):
            raise SchemaError(
                "ids are not one a sample", expected=str(len(dataset)), actual=str(len(self.ids))
            )

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, begin: int, end: int, pool: Pool) -> list[Bytes]:
        """Rows of each column, shape (rows, row_bytes)."""
        tensors = _flat(self.dataset.gather(range(begin, end)))
        return [
            _rows_as_bytes(tensor, column, end - begin)
            for tensor, column in zip(tensors, self.columns, strict=True)
        ]


class ImageSource:
    """Image files by class, as torchvision finds them; or, without labels, those of one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sample = "dict"
        self.classes: Sequence[str] | None = [entry.name for entry in _scan(root) if entry.is_dir()]
        found = [
            (path, size, label)
            for label, name in enumerate(self.classes)
            for path, size in _files_below(root, name, _IMAGES)
        ]
        self.columns: tuple[Column, ...] = (Column("image", "image", "uint8", encoded=True),)
        if found:
            self.columns += (Column("label", "label", "int64"),)
        else:
            self.classes = None
            found = [(path, size, 0) for path, size in _files_below(root, "", _IMAGES)]
        if not found:
            raise SchemaError(
                "no image is there", path=os.fspath(root), expected=f"files like *{', *'.join(_IMAGES)}"
            )
        self.ids = [path for path, _, _ in found]
        self.sizes = np.array([size for _, size, _ in found], np.int64)
        self._labels = np.array([label for _, _, label in found], np.int64)
        self._ends = ends_of(self.sizes)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, begin: int, end: int, pool: Pool) -> list[Bytes]:
        """Images end to end, shape (bytes,), and their labels, shape (rows, 8)."""
        edges = (self._ends[begin : end + 1] - self._ends[begin]).tolist()
        images = np.empty(edges[-1], np.uint8)
        root = os.fspath(self.root)

        def read(first: int, last: int) -> None:
            for row in range(first, last):
                _read_whole(os.path.join(root, self.ids[begin + row]), images[edges[row] : edges[row + 1]])

        pool.start(read, end - begin)()
        labels = self._labels[begin:end].view(np.uint8).reshape(-1, 8)
        return [images, labels][: len(self.columns)]


def open_source(source: Dataset | PathLike, kind: Kind | None) -> Source:
    """What `pack` was given.

    Raises:
        ArgumentError: `kind` has a value that cannot be, or does not say enough.
        SchemaError: This cannot be packed.
        ShardError: A file or folder cannot be read.
    """
    if isinstance(source, Dataset):
        return DatasetSource(source)
    if not isinstance(source, (str, os.PathLike)):
        raise SchemaError(
            "this cannot be packed", expected="a Penstock dataset or a path", actual=type(source).__name__
        )
    require_choice("kind", kind, (None, *get_args(Kind)))
    kind = kind or _kind_of(Path(source))
    if kind == "images":
        return ImageSource(Path(source))
    return DatasetSource(ShardDataset(source) if kind == "shards" else FileDataset(source))


def require_apart(source: Dataset | PathLike, target: Path) -> None:
    """See that a folder does not lie in the source.

    Raises:
        ArgumentError: It does.
    """
    root = getattr(source, "root", None) if isinstance(source, Dataset) else source
    if not isinstance(root, (str, os.PathLike)) or not os.path.isdir(root):
        return
    inner, outer = os.path.realpath(target), os.path.realpath(root)
    if os.path.commonpath([inner, outer]) == outer:
        raise ArgumentError(
            "the source cannot be packed into itself",
            path=os.fspath(target),
            expected=f"a folder that is not in {outer}",
        )


def _require_fixed(dataset: Dataset) -> None:
    """See that all rows of a field have one shape: a pack has no place for their lengths."""
    for field in dataset.table.fields:
        if field.is_image and field.is_ragged:
            raise SchemaError(
                "images of different sizes cannot be packed as pixels",
                field=field.name,
                hint='Pack their files, as they are: pack(folder, ..., kind="images").',
            )
        if field.is_ragged:
            raise SchemaError(
                "rows of different lengths cannot be packed",
                field=field.name,
                expected="rows of one shape",
                hint="Open them as they are, with RaggedDataset or FileDataset(index=); or save them end to "
                "end, beside their lengths, for RaggedDataset(values, lengths=lengths).",
            )


def _kind_of_sample(batch: Any) -> str:
    if isinstance(batch, Tensor):
        return "tensor"
    is_flat = not isinstance(batch, Mapping) and all(isinstance(part, Tensor) for part in batch)
    return "tuple" if is_flat else "dict"


def _flat(batch: Any) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    parts = batch.values() if isinstance(batch, Mapping) else batch
    return [tensor for part in parts for tensor in _flat(part)]


def _rows_as_bytes(tensor: Tensor, column: Column, rows: int) -> Bytes:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype != column.dtype or tensor.shape != (rows, *column.row_shape):
        raise SchemaError(
            "a batch is not what the dataset's schema says",
            field=column.name,
            expected=f"{column.dtype} of shape {(rows, *column.row_shape)}",
            actual=f"{dtype} of shape {tuple(tensor.shape)}",
        )
    flat: Bytes = tensor.contiguous().view(-1).view(torch.uint8).numpy()
    return flat.reshape(rows, column.row_bytes)


def _ids_of(dataset: Dataset) -> Sequence[str] | None:
    if isinstance(dataset, ConcatDataset):
        parts = [_ids_of(part) for part in dataset.datasets]
        return (
            None if any(part is None for part in parts) else [name for part in parts for name in part or ()]
        )
    ids = getattr(dataset, "ids", None)
    return None if ids is None else list(ids)


def _kind_of(folder: Path) -> Kind:
    if not folder.is_dir():
        return "shards"
    has_images = any(_files_below(folder, "", _IMAGES))
    if has_images and any(_files_below(folder, "", SUFFIXES)):
        raise ArgumentError(
            "there are images and other data files",
            path=os.fspath(folder),
            hint='Say which to pack: kind="images" or kind="files".',
        )
    return "images" if has_images else "files"


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    with reading(folder), os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _files_below(root: Path, below: str, suffixes: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Path below `root` and size of each file: a folder's own first, then those of its folders."""
    folders = []
    for entry in _scan(root / below):
        if entry.is_dir():
            folders.append(entry.name)
        elif entry.name.lower().endswith(suffixes):
            with reading(entry.path):
                yield os.path.join(below, entry.name), entry.stat().st_size
    for name in folders:
        yield from _files_below(root, os.path.join(below, name), suffixes)


def _read_whole(path: str, out: Bytes) -> None:
    """Fill `out` with a file of exactly that size."""
    opened = -1
    done = 0
    try:
        opened = os.open(path, os.O_RDONLY)
        size = os.fstat(opened).st_size
        while size == len(out) > done and (count := os.readv(opened, [out[done:].data])):
            done += count
    except OSError as error:
        raise cannot_be_read(path, error) from error
    finally:
        if opened >= 0:
            os.close(opened)
    if not size == len(out) == done:
        raise ShardError(
            "changed while it was packed",
            path=path,
            expected=f"{len(out)} bytes",
            actual=str(size if size != len(out) else done),
        )
