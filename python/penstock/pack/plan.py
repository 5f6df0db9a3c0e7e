"""Which files a pack is of: all that is known before the first sample is read."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from penstock.datasets.shards import PACK_MANIFEST, pack_file
from penstock.errors import ArgumentError, FormatError, SchemaError
from penstock.pack.disk import reading

__all__ = ["Column", "File", "Offsets", "Plan", "cuts", "ends_of", "folders_for", "require_writable"]

Offsets: TypeAlias = npt.NDArray[np.int64]

VERSION = 1
UNFINISHED = "unfinished"  # the folder in which shards are made
FINISHED = "finished"  # what it is called while its contents move up
DIGESTS = "pack/digests"
DIGEST_BYTES = 16

_SAFETENSORS = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32",
    "int32": "I32", "uint64": "U64", "int64": "I64", "float16": "F16", "bfloat16": "BF16",
    "float32": "F32", "float64": "F64", "complex64": "C64", "float8_e5m2": "F8_E5M2",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One field: rows of one shape; or, encoded, bytes of any number."""

    name: str
    folder: str
    dtype: str  # torch's name
    row_shape: tuple[int, ...] = ()
    encoded: bool = False

    @property
    def row_bytes(self) -> int:
        """Of a row; 0 where that differs."""
        return 0 if self.encoded else _itemsize(self.dtype) * math.prod(self.row_shape)


@dataclass(frozen=True)
class File:
    """A file of a shard: its path below the folder, its head, and where in it each array begins."""

    path: str
    head: bytes
    begins: dict[str, int]
    size: int


@dataclass(frozen=True)
class Plan:
    """All that decides what the files will be, but for the bytes of the samples."""

    format: str
    shard_bytes: int
    sample: str  # "tensor", "tuple" or "dict"
    columns: tuple[Column, ...]
    rows: tuple[int, ...]  # of each shard
    encoded_bytes: tuple[int, ...] | None  # of each shard
    classes: tuple[str, ...] | None
    ids: str | None  # what stands for all of them

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan that a folder's manifest holds.

        Raises:
            ShardError: There is none, or it cannot be read.
            FormatError: It is none of ours.
        """
        path = folder / PACK_MANIFEST
        with reading(path):
            content = path.read_bytes()
        try:
            facts = json.loads(content)
            version = facts.pop("penstock_pack")
            columns = tuple(Column(**_with_tuples(column)) for column in facts.pop("columns"))
            plan = cls(columns=columns, **_with_tuples(facts))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError("this is no manifest of a pack", path=os.fspath(path)) from error
        if version != VERSION:
            raise FormatError(
                "this pack is of another version",
                path=os.fspath(path),
                expected=str(VERSION),
                actual=str(version),
            )
        return plan

    def as_json(self) -> bytes:
        """The manifest."""
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        facts["columns"] = [vars(column) for column in self.columns]
        return (json.dumps({"penstock_pack": VERSION, **facts}, indent=1) + "\n").encode()

    def require_same(self, other: Plan, folder: Path) -> None:
        """Refuse to go on with what was begun otherwise.

        Raises:
            ArgumentError: The plans differ, and in what.
        """
        for field in fields(self):
            wanted, there = getattr(self, field.name), getattr(other, field.name)
            if wanted != there:
                raise ArgumentError(
                    f"this folder holds another pack: its {field.name} differ",
                    path=os.fspath(folder),
                    expected=_short(wanted),
                    actual=_short(there),
                    hint="Choose another folder, or delete this one.",
                )

    @cached_property
    def firsts(self) -> list[int]:
        """The first sample of each shard, and how many there are."""
        return [0, *accumulate(self.rows)]

    @property
    def row_bytes(self) -> int:
        """Of a sample, without what is encoded."""
        return sum(column.row_bytes for column in self.columns)

    @property
    def encoded(self) -> Column | None:
        """The encoded column."""
        return next((column for column in self.columns if column.encoded), None)

    def bytes_of(self, number: int) -> int:
        """Bytes of a shard's samples."""
        encoded = 0 if self.encoded_bytes is None else self.encoded_bytes[number]
        return self.rows[number] * self.row_bytes + encoded

    def path_of(self, column: Column, number: int) -> str:
        """Where a column's rows of a shard lie."""
        return self._file(self.format, column.folder, number)

    def files(self, number: int) -> list[File]:
        """The files of a shard; the last one, with the digests, comes when all others are there."""
        if self.format == "npy":
            arrays = self._arrays(number)
            files = [_npy_file(self._file("npy", array.folder, number), array) for array in arrays]
        else:
            path = self._file("safetensors", "data", number)
            files = [_safetensors_file(path, list(self._arrays(number)))]
        digests = _Array("", DIGESTS, "uint8", (self.rows[number], DIGEST_BYTES))
        return [*files, _npy_file(self._file("npy", DIGESTS, number), digests)]

    def _file(self, format: str, folder: str, number: int) -> str:
        return pack_file(format, folder, number, len(self.rows))

    def _arrays(self, number: int) -> Iterator[_Array]:
        rows = self.rows[number]
        for column in self.columns:
            if column.encoded and self.encoded_bytes is not None:
                yield _Array(column.name, column.folder, "uint8", (self.encoded_bytes[number],))
                yield _Array(f"{column.name}_offsets", f"{column.folder}_offsets", "int64", (rows + 1,))
            else:
                yield _Array(column.name, column.folder, column.dtype, (rows, *column.row_shape))


def cuts(rows: int, row_bytes: int, ends: Offsets | None, limit: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows, one after another, of as many bytes as the limit allows, and at least one row.

    Args:
        rows: How many there are.
        row_bytes: What each has of bytes.
        ends: What they have beside that, summed up, shape (rows + 1,); or nothing.
        limit: Bytes of a range.
    """
    positions = None if ends is None else ends + row_bytes * np.arange(rows + 1)
    begin = 0
    while begin < rows:
        if positions is None:
            end = begin + limit // max(1, row_bytes)
        else:
            end = int(np.searchsorted(positions, positions[begin] + limit, "right")) - 1
        end = min(max(end, begin + 1), rows)
        yield begin, end
        begin = end


def ends_of(sizes: Offsets) -> Offsets:
    """0 and the running sums, shape (len(sizes) + 1,)."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])


def folders_for(names: Sequence[str]) -> list[str]:
    """A folder for each field: its name where that is a plain one, and nobody else's."""
    plain = re.compile(
        r"(?!(field_\d+|pack|pack\.json|data|unfinished|finished)$)[A-Za-z0-9_][\w.-]{,99}", re.A
    )
    taken: set[str] = set()
    folders = []
    for i, name in enumerate(names):
        folder = name if plain.fullmatch(name) and name.lower() not in taken else f"field_{i}"
        taken.add(folder.lower())
        folders.append(folder)
    return folders


def require_writable(columns: Sequence[Column], format: str) -> None:
    """See that a format has all dtypes and names.

    Raises:
        SchemaError: It has not.
    """
    other = "safetensors" if format == "npy" else "npy"
    for column in columns:
        known = _numpy_dtype(column.dtype) if format == "npy" else _SAFETENSORS.get(column.dtype)
        nameable = format == "npy" or column.name != "__metadata__"
        if known is None or not nameable:
            raise SchemaError(
                f"{format} has no {'field of this name' if known else column.dtype}",
                field=column.name,
                hint=f'Pack it with format="{other}".',
            )


@dataclass(frozen=True)
class _Array:
    """What is stored of a column in a shard."""

    name: str
    folder: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return _itemsize(self.dtype) * math.prod(self.shape)


def _npy_file(path: str, array: _Array) -> File:
    head = BytesIO()
    facts = {"descr": _numpy_dtype(array.dtype), "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(head, facts)
    return File(path, head.getvalue(), {array.name: head.tell()}, head.tell() + array.num_bytes)


def _safetensors_file(path: str, arrays: Sequence[_Array]) -> File:
    arrays = sorted(arrays, key=lambda array: -_itemsize(array.dtype))  # so each is aligned
    edges = [0, *accumulate(array.num_bytes for array in arrays)]
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for array, begin, end in zip(arrays, edges, edges[1:], strict=False):
        dtype = _SAFETENSORS[array.dtype]
        entries[array.name] = {"dtype": dtype, "shape": array.shape, "data_offsets": (begin, end)}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    begins = {array.name: len(head) + begin for array, begin in zip(arrays, edges, strict=False)}
    return File(path, head, begins, len(head) + edges[-1])


def _itemsize(dtype: str) -> int:
    size: int = getattr(torch, dtype).itemsize
    return size


def _numpy_dtype(dtype: str) -> str | None:
    """How numpy writes a torch dtype in a head, or None where it has not its like."""
    try:
        return torch.empty(0, dtype=getattr(torch, dtype)).numpy().dtype.str
    except TypeError:
        return None


def _with_tuples(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
