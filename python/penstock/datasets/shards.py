"""Many samples per file."""

from __future__ import annotations

import glob
import json
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import torch

from penstock import _core
from penstock.collate import Transform
from penstock.datasets.array_images import ArrayDataset, FieldTransforms
from penstock.datasets.left_out import is_left_out, warn_of_left_out
from penstock.errors import FormatError, SchemaError
from penstock.table import Structure, Table

__all__ = ["Raw", "ShardDataset"]

Paths: TypeAlias = "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"

PACK_MANIFEST = "pack.json"
SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class Raw:
    """What a file without a header holds: little-endian rows of one shape, end to end.

    Attributes:
        dtype: Of the elements: a dtype of torch or numpy, or its name, such as "uint16".
        row_shape: Shape of one row: whole numbers, or one.
        offset: Bytes to skip at the start of every file. Default: 0.
    """

    dtype: str | torch.dtype | np.dtype[Any] | type[Any]
    row_shape: Sequence[int] | int = ()
    offset: int = 0

    def _as_core(self) -> tuple[str, list[int], int]:
        shape = self.row_shape if isinstance(self.row_shape, Iterable) else (self.row_shape,)
        try:
            sizes, offset = [operator.index(size) for size in shape], operator.index(self.offset)
        except TypeError:
            raise SchemaError(
                "a raw row_shape and offset are whole numbers",
                actual=f"row_shape={self.row_shape!r}, offset={self.offset!r}",
            ) from None
        if offset < 0:
            raise SchemaError("a raw offset cannot be negative", actual=str(offset))
        return self._dtype_name(), sizes, offset

    def _dtype_name(self) -> str:
        if isinstance(self.dtype, (str, torch.dtype)):
            return str(self.dtype).removeprefix("torch.")
        try:
            dtype = np.dtype(self.dtype) if isinstance(self.dtype, (type, np.dtype)) else None
        except TypeError:
            dtype = None
        if dtype is None or dtype.byteorder == ">":
            raise SchemaError(
                "this is no dtype of a raw file" if dtype is None else "a raw file is little-endian",
                expected='a dtype of torch or numpy, or its name, such as "uint16"',
                actual=repr(self.dtype),
            )
        return dtype.name


class ShardDataset(ArrayDataset):
    """Samples that are rows of arrays in files: `.npy`, `.npz`, `.pt`/`.pth`, `.safetensors`, raw binary.

    Only headers are read when it is made. Rows are numbered through all files, in their order; files may
    differ in length, and be of different formats. Values of `.pt` files that are no tensors are in no sample:
    unless `fields` chooses, a warning names them, but for None and empty containers.

    A sample is a tensor when files hold one array, a tuple when they are `.pt` files of a tuple or list,
    a dict when they hold named arrays or `source` is a mapping. `fields` chooses.

    Args:
        source: A path, a folder (its data files, or what `penstock.pack` has put there), a glob pattern, or a
            list of paths; or a mapping from field to one of these, whose rows correspond. Patterns and
            folders are taken in sorted order, a list as given.
        fields: A name: samples are that tensor. A tuple of names: samples are tuples in that order.
            Default: all arrays.
        target: The field with the class labels, for `targets`. Default: the one called `label`, `labels`,
            `target`, `targets`, `y` or `class`.
        transform: A mapping from field (its name, or its place in a tuple) to what is called with that
            field's row; or what is called with each sample. A field whose rows are images (uint8, two
            dimensions, or three with 1 to 4 channels first or last) and whose transform the core knows,
            `penstock.transforms` or torchvision's of tensors as in `ImageFolder`, is cropped, flipped, cast
            and normalised by the core, while it is gathered; likewise a sample that is one such image. It is
            taken as (channels, height, width), and is that afterwards: see `penstock.transforms.ImageRows`.
            Anything else is the slow path, one Python call a sample: `explain()` says why, and so does a
            message of the logger "penstock". Default: none.
        raw: What the files hold when they have no header. Default: they have one.
        seed: Of what is random about transforms that the core carries out. They depend on it, the epoch and
            the sample alone; fields with the same steps are cut alike. Default: 0.

    Raises:
        ArgumentError: A row is smaller than what a transform cuts out of it, or its shape does not say where
            its channels are.
        ShardError: A file is unreadable; MissingFileError: it is not there.
        FormatError: A file is not what it should be.
        SchemaError: No file matches, or files or fields disagree in names, dtype, shape or rows.
    """

    def __init__(
        self,
        source: Paths | Mapping[str, Paths],
        *,
        fields: str | Sequence[str] | None = None,
        target: str | None = None,
        transform: Transform | FieldTransforms | None = None,
        raw: Raw | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(source, Mapping) and _is_packed(source):
            source, fields = _packed(source, fields)
        if isinstance(source, Mapping):
            columns, structure = _open_mapping(source, fields, raw)
        else:
            columns, structure = _open_files(source, fields, raw)
        super().__init__(
            Table(_core.Table(columns), structure), target=target, transform=transform, seed=seed
        )


def _is_packed(source: Paths) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(source, (str, os.PathLike)) and os.path.isfile(os.path.join(source, PACK_MANIFEST))


def pack_file(format: str, folder: str, number: int, count: int) -> str:
    """Where a pack of `count` shards keeps a column's rows of one of them, below its folder."""
    name = f"{number:0{max(5, len(str(count - 1)))}}"
    return f"{folder}/{name}.npy" if format == "npy" else f"data/{name}.safetensors"


def _packed(
    folder: str | os.PathLike[str], fields: str | Sequence[str] | None
) -> tuple[dict[str, list[str]], str | Sequence[str] | None]:
    """The files of each field that `penstock.pack` has written, and how samples were put together."""
    path = os.path.join(folder, PACK_MANIFEST)
    try:
        with open(path, encoding="utf-8") as file:
            plan = json.load(file)
        count = len(plan["rows"])
        source = {
            str(column["name"]): [
                os.path.join(folder, pack_file(plan["format"], column["folder"], number, count))
                for number in range(count)
            ]
            for column in plan["columns"]
            if not column["encoded"]
        }
        packed = {"tensor": next(iter(source), ""), "tuple": tuple(source), "dict": None}[plan["sample"]]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError("this is no manifest of a pack", path=path, actual=repr(error)) from error
    return source, packed if fields is None else fields


def _open_files(
    source: Paths, fields: str | Sequence[str] | None, raw: Raw | None
) -> tuple[list[_core.Column], Structure]:
    files = _file_set(source, raw)
    if fields is None:
        files.require_all_usable()
    structure = _structure(files, fields)
    columns = files.columns(structure.names)
    if fields is None:
        warn_of_left_out(files.left_out)
    return columns, structure


def _structure(files: _core.FileSet, fields: str | Sequence[str] | None) -> Structure:
    if isinstance(fields, str):
        return Structure("tensor", (fields,))
    if fields is not None:
        return Structure("tuple", distinct(fields))
    if files.container == "sequence":
        return Structure("tuple", tuple(files.names))
    return Structure("tensor" if len(files.names) == 1 else "dict", tuple(files.names))


def _open_mapping(
    source: Mapping[str, Paths], fields: str | Sequence[str] | None, raw: Raw | None
) -> tuple[list[_core.Column], Structure]:
    if not source:
        raise SchemaError("source= maps no field to files")
    if isinstance(fields, str):
        structure = Structure("tensor", (fields,))
    else:
        structure = Structure(
            "dict" if fields is None else "tuple", distinct(source if fields is None else fields)
        )
    missing = [name for name in structure.names if name not in source]
    if missing:
        raise SchemaError(
            "fields= names what source= does not", expected=f"one of {list(source)}", actual=repr(missing[0])
        )
    return [_column_of(name, source[name], raw, fields is not None) for name in structure.names], structure


def _column_of(name: str, paths: Paths, raw: Raw | None, is_chosen: bool) -> _core.Column:
    files = _file_set(paths, raw)
    left_out = files.left_out
    is_lone = len(files.names) == 1 and not is_left_out(name, left_out)
    column = files.column(files.names[0] if is_lone else name, name)
    if not is_chosen and name not in files.names:  # else that array was asked for, and nothing beside it
        warn_of_left_out(left_out)
    return column


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    names = tuple(names)
    if not names or len(set(names)) != len(names):
        raise SchemaError("fields= must name one or more fields, each once", actual=repr(names))
    return names


def _file_set(source: Paths, raw: Raw | None) -> _core.FileSet:
    paths = resolve_paths(source, suffixes=SUFFIXES if raw is None else ())
    return _core.FileSet([os.fsencode(path) for path in paths], None if raw is None else raw._as_core())


def resolve_paths(source: Paths, *, suffixes: tuple[str, ...] = SUFFIXES) -> list[str]:
    """The files that a source means.

    Args:
        source: A path, a folder, a glob pattern, or a list of paths.
        suffixes: What the files of a folder that are meant end with, in lower case; none: every file.
            Default: those of `ShardDataset`.

    Returns:
        Absolute paths; of a folder or a pattern in sorted order.

    Raises:
        SchemaError: There is none.
    """
    if not isinstance(source, (str, os.PathLike)):
        paths = [os.fspath(path) for path in source]
        source = "an empty list"
    elif os.path.isdir(source):
        paths = _data_files(Path(source), suffixes)
    elif glob.has_magic(os.fspath(source)) and not os.path.exists(source):
        paths = sorted(
            path for path in glob.glob(os.fspath(source), recursive=True) if not os.path.isdir(path)
        )
    else:
        paths = [os.fspath(source)]
    if not paths:
        raise SchemaError(
            "no data file is there",
            path=str(source),
            expected=f"files like *{', *'.join(suffixes)}" if suffixes else None,
        )
    return [os.path.abspath(path) for path in paths]


def _data_files(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    entries = (entry for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
    return sorted(entry.path for entry in entries if not suffixes or entry.name.lower().endswith(suffixes))
