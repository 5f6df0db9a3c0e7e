"""Samples that Python made, stacked into batches; chunks of them, cut to batches."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NoReturn, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from penstock import _core
from penstock.device import empty, has_accelerator, map_tensors, pin
from penstock.errors import SchemaError

__all__ = ["Stacker", "batch_bytes", "chunk_rows", "map_chunk", "rows_of"]

Values: TypeAlias = "list[Any] | tuple[Any, ...]"

_RECYCLED = 1 << 16  # bytes from which on fresh memory costs more than recycled
_NUMBERS = {float: torch.float64, int: torch.int64, bool: torch.bool}


class Stacker:
    """Makes the batches of one pass: what torch's `default_collate` makes of the same samples, but faster.

    Numpy arrays, tensors, numbers, strings, and tuples, lists and dicts of them are stacked here; anything
    else goes to `default_collate`. Where that would quietly make another dtype of a batch in which they
    differ, this raises; so it does when a later batch has another dtype or structure. Where a float came
    first, ints are floats too, in later batches as well.

    Args:
        pin_memory: Make tensors in pinned memory when there is an accelerator. Default: False.

    Attributes:
        bytes: Of the tensors of the latest batch.
    """

    def __init__(self, *, pin_memory: bool = False) -> None:
        self.bytes = 0
        self._pin = pin_memory and has_accelerator()
        self._known: dict[str, Any] = {}  # by field: what its values were so far
        self._rows: Sequence[int] = ()  # of the values at hand
        self._arrays: Callable[[Values, str], Any] = self._stacked
        self._joins = False  # chunks, not samples

    def stack(self, samples: Values, row: int) -> Any:
        """The batch of these samples.

        Args:
            samples: One or more.
            row: The number of the first in the stream, for messages.

        Returns:
            What `default_collate` makes of them. Yours to keep.

        Raises:
            SchemaError: A sample is unlike those before it, or cannot be made a tensor.
        """
        self.bytes = 0
        self._rows = range(row, row + len(samples))
        self._arrays, self._joins = self._stacked, False
        return self._column(samples, "")

    def join(self, chunks: Values, begin: int, count: int, rows: Sequence[int]) -> Any:
        """The batch of the rows of these chunks.

        Args:
            chunks: One or more, as `chunk_rows` knows them.
            begin: How many rows of the first to leave out.
            count: How many rows to take.
            rows: The number in the stream of each chunk's first row, for messages.

        Returns:
            What `default_collate` makes of the same rows. Yours to keep.

        Raises:
            SchemaError: A chunk is unlike those before it.
        """
        self.bytes = 0
        self._rows = rows
        self._arrays, self._joins = functools.partial(self._joined, begin=begin, count=count), True
        return self._column(chunks, "")

    def _column(self, values: Values, field: str) -> Any:
        kind = type(values[0])
        if kind is np.ndarray or kind is Tensor:
            self._require_known(field, (kind, values[0].dtype))
            return self._arrays(values, field)
        if kind in _NUMBERS or issubclass(kind, (np.number, np.bool_)):
            return self._numbers(values, kind, field)
        if kind is tuple or kind is list:
            return self._sequences(values, kind, field)
        if kind is dict:
            return self._dicts(values, field)
        if self._joins and _is_array(values[0]):
            return self._column(list(map(_plain, values)), field)
        return values if kind is str or kind is bytes else self._others(values, field)

    def pinned(self, batch: Any) -> Any:
        """The batch in pinned memory, if that was asked for; where it is so already, itself."""
        return pin(batch) if self._pin else batch

    def _stacked(self, values: Values, field: str) -> Any:
        first = values[0]
        out = self._room(first.dtype, (len(values), *first.shape))
        capsule = _capsule(out)
        if out is None or capsule is None or _core.stack_rows(values, capsule) < len(values):
            self._require_alike(values, field, lambda value: value.shape)
            return self._others(values, field)
        self.bytes += out.nbytes
        return out

    def _joined(self, values: Values, field: str, *, begin: int, count: int) -> Any:
        first = values[0]
        out = self._room(first.dtype, (count, *first.shape[1:]))
        capsule = _capsule(out)
        if out is None or capsule is None or _core.concatenate_rows(values, begin, capsule) < len(values):
            plain = list(map(_plain, values))
            if any(one is not other for one, other in zip(plain, values, strict=True)):
                return self._joined(plain, field, begin=begin, count=count)
            self._require_alike(values, field, lambda value: ("rows", *value.shape[1:]))
            joined = torch.cat([torch.as_tensor(value) for value in values])[begin : begin + count]
            self.bytes += joined.nbytes
            return joined
        self.bytes += out.nbytes
        return out

    def _numbers(self, values: Values, kind: type, field: str) -> Any:
        if kind is int and self._known.get(field) == (float, None):
            kind = float  # floats that happen to be whole, as JSON has them
        self._require_known(field, (kind, None))
        if kind in _NUMBERS:
            out = self._room(_NUMBERS[kind], (len(values),))
            if out is not None and _core.stack_numbers(values, kind.__name__, _capsule(out)) == len(values):
                self.bytes += out.nbytes
                return out
        # Where floats are wanted, ints are not what is wrong.
        floats = [0.0 if type(each) is int else each for each in values] if kind is float else values
        self._require_one_type(floats, field)
        if _torch_dtype(np.dtype(kind)) is None or kind in _NUMBERS:  # torch has its own words for it
            return self._others(values, field)
        tensor = torch.from_numpy(np.array(values))
        self.bytes += tensor.nbytes
        return tensor

    def _sequences(self, values: Values, kind: type, field: str) -> Any:
        self._require_known(field, (kind, len(values[0])))
        columns = _core.columns(values)
        if columns is None:
            self._require_alike(values, field, len)
            return self._others(values, field)
        return [self._column(column, f"{field}.{i}" if field else str(i)) for i, column in enumerate(columns)]

    def _dicts(self, values: Values, field: str) -> Any:
        self._require_one_type(values, field)
        batch = {}
        for key in values[0]:
            try:
                column = list(map(itemgetter(key), values))
            except KeyError:
                self._require_alike(values, field, lambda value: sorted(map(repr, value)))
                raise
            batch[key] = self._column(column, f"{field}.{key}" if field else str(key))
        return batch

    def _others(self, values: Values, field: str) -> Any:
        try:
            batch = default_collate(values)  # type: ignore[arg-type]
        except TypeError as error:
            raise SchemaError(
                str(error),
                field=field or None,
                row=self._rows[0],
                hint="Give the loader a collate_fn that puts such samples together.",
            ) from error
        self.bytes += batch_bytes(batch)
        return batch

    def _room(self, dtype: Any, shape: tuple[int, ...]) -> Tensor | None:
        """A tensor to fill; none where torch has no such dtype."""
        dtype = _torch_dtype(dtype)
        if dtype is None:
            return None
        size = math.prod(shape) * dtype.itemsize
        if self._pin or size < _RECYCLED:
            return empty(shape, dtype, pin_memory=self._pin)
        recycled: Tensor = torch.from_dlpack(_core.batch_bytes(size))
        return recycled.view(dtype).view(shape)

    def _require_known(self, field: str, now: tuple[type, Any]) -> None:
        before = self._known.setdefault(field, now)
        if before != now:
            self._refuse(field, 0, _words(*before), _words(*now))

    def _require_one_type(self, values: Values, field: str) -> None:
        if len(set(map(type, values))) > 1:
            self._require_alike(values, field, lambda value: None)

    def _require_alike(self, values: Values, field: str, shape: Callable[[Any], Any]) -> None:
        """Say which value is unlike the first, if one is."""

        def described(value: Any) -> str:
            words = _words(type(value), getattr(value, "dtype", None))
            if type(value) is not type(values[0]) or (size := shape(value)) is None:
                return words
            return f"{words}, {tuple(size) if isinstance(size, tuple) else size}"

        expected = described(values[0])
        for i, value in enumerate(values):
            if (actual := described(value)) != expected:
                self._refuse(field, i, expected, actual)

    def _refuse(self, field: str, i: int, expected: str, actual: str) -> NoReturn:
        raise SchemaError(
            "this item of the stream is unlike those before it",
            field=field or None,
            row=self._rows[i],
            expected=f"as before, {expected}",
            actual=actual,
            hint="Make them alike in the source, or give the loader a collate_fn: penstock.Collate() pads.",
        )


def _words(kind: type, detail: Any) -> str:
    return kind.__name__ if detail is None else f"{kind.__name__} of {detail}"


def _capsule(out: Tensor | None) -> Any:
    if out is None:
        return None
    try:
        return torch.utils.dlpack.to_dlpack(out)
    except (BufferError, RuntimeError):  # DLPack has no such dtype
        return None


@functools.cache
def _torch_dtype(dtype: Any) -> torch.dtype | None:
    if isinstance(dtype, torch.dtype):
        return dtype
    try:
        return torch.from_numpy(np.empty(0, dtype)).dtype
    except (TypeError, ValueError):
        return None


def batch_bytes(batch: Any) -> int:
    """Bytes of its tensors."""
    total = 0

    def add(tensor: Tensor) -> Tensor:
        nonlocal total
        total += tensor.nbytes
        return tensor

    map_tensors(batch, add)
    return total


def chunk_rows(chunk: Any) -> int:
    """How many rows a chunk has: arrays or tensors with rows, alone or in tuples, lists and dicts.

    Raises:
        SchemaError: It is something else, or its parts differ in length.
    """
    kind = type(chunk)
    if kind is np.ndarray or kind is Tensor or _is_array(chunk):
        if chunk.ndim > 0:
            return int(chunk.shape[0])
    elif kind in (tuple, list, dict) and chunk:
        lengths = [chunk_rows(part) for part in (chunk.values() if kind is dict else chunk)]
        if len(set(lengths)) == 1:
            return lengths[0]
        raise SchemaError("the parts of a chunk differ in length", actual=", ".join(map(str, lengths)))
    raise SchemaError(
        "this is no chunk of rows",
        expected="arrays or tensors whose first dimension is the batch, alone or in a tuple, list or dict",
        actual=f"{kind.__name__} of no rows" if _is_array(chunk) else kind.__name__,
    )


def _is_array(value: Any) -> bool:
    """Whether it is an array or tensor, of a subclass too; masked arrays are more than that."""
    return isinstance(value, (np.ndarray, Tensor)) and not isinstance(value, np.ma.MaskedArray)


def _plain(array: Any) -> Any:
    """The same memory without what a subclass adds, such as np.memmap; others as they are."""
    if isinstance(array, np.ndarray):
        return np.asarray(array)
    return array.as_subclass(Tensor) if isinstance(array, Tensor) and type(array) is not Tensor else array


def map_chunk(chunk: Any, function: Callable[[Any], Any]) -> Any:
    """The same chunk with `function` applied to its arrays."""
    if isinstance(chunk, dict):
        return {key: map_chunk(part, function) for key, part in chunk.items()}
    if isinstance(chunk, (tuple, list)):
        return type(chunk)(map_chunk(part, function) for part in chunk)
    return function(chunk)


def rows_of(chunk: Any) -> list[Any]:
    """The rows of a chunk as samples."""
    if isinstance(chunk, dict):
        columns = map(rows_of, chunk.values())
        return [dict(zip(chunk, row, strict=True)) for row in zip(*columns, strict=True)]
    if isinstance(chunk, (tuple, list)):
        rows = zip(*map(rows_of, chunk), strict=True)
        return list(rows) if isinstance(chunk, tuple) else [list(row) for row in rows]
    return list(_plain(chunk))
