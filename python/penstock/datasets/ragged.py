"""Samples of different lengths."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import context
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from penstock import _core
from penstock.collate import Transform
from penstock.datasets.base import TARGET_NAMES, Dataset, Rows, require_tensors
from penstock.datasets.left_out import is_left_out, warn_of_left_out
from penstock.datasets.shards import Paths, distinct, resolve_paths
from penstock.errors import SchemaError
from penstock.table import Structure, Table, column_in_memory, require_alike

__all__ = ["RaggedDataset"]

Values: TypeAlias = "Paths | Tensor | np.ndarray[Any, Any] | Sequence[Tensor]"
Numbers: TypeAlias = "Paths | Tensor | np.ndarray[Any, Any] | Sequence[int]"

_VALUES = "values"


class RaggedDataset(Dataset):
    """Samples that differ in their first dimension: sequences, point sets, sets of boxes.

    Values lie end to end along dimension 0, in any number of files, with lengths or offsets beside them; or
    each array is one sample: files with one array each, `.pt` files with a list of tensors, tensors in
    memory. Values are found by two searches and copied once, from the files into the batch; see `Collate` for
    what a batch is.

    A sample is a tensor, shape (length, *value_shape); with a mapping a dict of such, or a tuple in the order
    of `fields`. Values of `.pt` files that are no tensors are in no sample, as in `ShardDataset`.

    Args:
        values: A path, a folder, a glob pattern or a list of paths, as in `ShardDataset`; a tensor or array,
            or a list of them; a `torch.nested` tensor of layout `torch.jagged`; or a mapping from field to
            one of these. Files that hold arrays called `values` and `lengths`, or `offsets`, need no more.
        lengths: Of each sample, shape (samples,), whole numbers: files, or a tensor, an array, a list or a
            column of a table (by position). They sum to the number of values. With a mapping as `values` they
            hold for all fields but `target`; or they are a mapping themselves, and fields that it does not
            name have one row a sample.
        offsets: Instead: where each sample begins, and at the end the number of values, shape (samples + 1,).
            As many files as there are of values: each counts from the beginning of its file.
        fields: With a mapping: a name, or a tuple of names, as in `ShardDataset`. With files of several
            arrays: the one that holds the values. Default: all; `values`.
        target: The field with the class labels, for `targets`. Default: as in `ShardDataset`.
        transform: Called with each sample; the slow path, one Python call a sample. Default: none.

    Raises:
        ShardError: A file is unreadable; MissingFileError: it is not there.
        FormatError: A file is not what it should be.
        SchemaError: Lengths or offsets do not fit the values; files or fields disagree in dtype, shape or
            number of samples.
    """

    def __init__(
        self,
        values: Values | Mapping[str, Values],
        *,
        lengths: Numbers | Mapping[str, Numbers] | None = None,
        offsets: Numbers | Mapping[str, Numbers] | None = None,
        fields: str | Sequence[str] | None = None,
        target: str | None = None,
        transform: Transform | None = None,
    ) -> None:
        if lengths is not None and offsets is not None:
            raise SchemaError("lengths= and offsets= say the same: give one of them")
        if isinstance(values, Mapping):
            structure = _structure(values, fields)
            asked = _asked_of_mapping(structure.names, values, lengths, offsets, target, fields is not None)
        else:
            if fields is not None and not isinstance(fields, str):
                raise SchemaError("values= holds one field: its name is a str", actual=repr(fields))
            structure = Structure("tensor", (fields or _VALUES,))
            is_named = fields is not None
            asked = [
                _Asked(structure.names[0], values, lengths, offsets, is_named=is_named, is_chosen=is_named)
            ]
        self._parts = [_opened(field) for field in asked]
        self._structure = structure
        super().__init__(_table_of(self._parts, structure), target=target, transform=transform)
        self._shareable: list[_Memory | _core.Table] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Files by their index, memory by its contents."""
        parts = self._for_another_process()
        return {**super().__getstate__(), "_table": None, "_parts": parts, "_shareable": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._table = _table_of(self._parts, self._structure)

    def _for_another_process(self) -> list[_Memory | _core.Table]:
        """Copies, while a worker process is being started: torch moves what it sends to shared memory."""
        if context.get_spawning_popen() is None:
            return self._parts
        if self._shareable is None:
            self._shareable = [part.copied() if isinstance(part, _Memory) else part for part in self._parts]
        return self._shareable


def _table_of(parts: Sequence[_Memory | _core.Table], structure: Structure) -> Table:
    """Their fields, side by side."""
    return Table(
        _core.Table([part.open() if isinstance(part, _Memory) else part for part in parts]), structure
    )


# --- what is asked for -----------------------------------------------------------------------------------


@dataclass
class _Asked:
    """One field: its values, and what tells its samples apart. A fixed one has a row for each."""

    name: str
    values: Any
    lengths: Any = None
    offsets: Any = None
    is_fixed: bool = False
    is_named: bool = True  # so that files must hold an array of that name
    is_mapped: bool = False  # so that an array of that name, if files hold one, is what was meant
    is_chosen: bool = True  # by fields=, so that other things in its files are not wanted

    @property
    def is_told_apart(self) -> bool:
        return self.is_fixed or self.lengths is not None or self.offsets is not None


def _structure(values: Mapping[str, Values], fields: str | Sequence[str] | None) -> Structure:
    names = (fields,) if isinstance(fields, str) else distinct(values if fields is None else fields)
    for name in names:
        _require_known("fields", name, values)
    return Structure("tensor" if isinstance(fields, str) else "dict" if fields is None else "tuple", names)


def _require_known(argument: str, name: str, values: Mapping[str, Any]) -> None:
    if name not in values:
        raise SchemaError(
            f"{argument}= names what values= does not", expected=f"one of {list(values)}", actual=repr(name)
        )


def _asked_of_mapping(
    names: Sequence[str],
    values: Mapping[str, Any],
    lengths: Any,
    offsets: Any,
    target: str | None,
    is_chosen: bool,
) -> list[_Asked]:
    argument, numbers = ("lengths", lengths) if offsets is None else ("offsets", offsets)
    if isinstance(numbers, Mapping):
        for name in numbers:
            _require_known(argument, name, values)
        given = {name: numbers.get(name) for name in names}
        fixed = {name for name in names if given[name] is None}
    else:
        fixed = {name for name in names if (name in TARGET_NAMES if target is None else name == target)}
        given = {name: None if name in fixed else numbers for name in names}
    return [
        _Asked(
            name,
            values[name],
            is_fixed=name in fixed,
            **{argument: given[name]},
            is_named=False,
            is_mapped=True,
            is_chosen=is_chosen,
        )
        for name in names
    ]


def _opened(field: _Asked) -> _Memory | _core.Table:
    """Its rows.

    Raises:
        SchemaError: They are not what was asked for; with the name of the field.
    """
    with _named(field.name):
        values = _without_index(field.values)
        field = replace(field, values=values)
        if isinstance(values, (Tensor, np.ndarray)) or _are_tensors(values):
            return _in_memory(field)
        if isinstance(values, Sequence) and len(values) > 0 and _are_numbers(values):
            return _in_memory(replace(field, values=_as_array(field.name, values)))
        if not isinstance(values, (str, os.PathLike, Iterable)):
            raise SchemaError("values must be tensors, arrays or files", actual=repr(values))
        return _core.Table([_in_files(field)])


@contextmanager
def _named(field: str) -> Iterator[None]:
    """Errors inside say which field it was."""
    try:
        yield
    except SchemaError as error:
        error.field = field
        raise


# --- in memory -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Memory:
    """Values in one tensor; with lengths or offsets of rows, or a row each."""

    name: str
    values: Tensor
    lengths: Rows | None
    offsets: Rows | None

    def open(self) -> _core.Column | _core.RaggedSource:
        column = column_in_memory(self.name, self.values)
        with _named(self.name):
            if self.lengths is not None:
                return _core.RaggedSource.from_lengths(column, self.lengths)
            return column if self.offsets is None else _core.RaggedSource.from_offsets(column, self.offsets)

    def copied(self) -> _Memory:
        return replace(self, values=self.values.clone())


def _in_memory(field: _Asked) -> _Memory:
    values: Any = field.values
    if isinstance(values, Tensor) and values.is_nested:
        jagged: Any = values
        if values.layout == torch.jagged and jagged.lengths() is None and jagged._ragged_idx == 1:
            _require_alone(field)
            return _Memory(
                field.name, jagged.values().detach(), None, jagged.offsets().numpy().astype(np.int64)
            )
        values = values.unbind()
    if not isinstance(values, (Tensor, np.ndarray)):
        _require_alone(field)
        tensors = require_tensors([_tensor_of(each) for each in values])
        require_alike(field.name, tensors)
        return _Memory(
            field.name, torch.cat(tensors), np.array([len(each) for each in tensors], np.int64), None
        )
    tensor = require_tensors([_tensor_of(values)])[0]
    if not field.is_told_apart:
        raise SchemaError("values in one tensor need lengths= or offsets=", hint="Or give a list of tensors.")
    lengths, offsets = (
        None if numbers is None else _numbers(name, numbers)[0]
        for name, numbers in (("lengths", field.lengths), ("offsets", field.offsets))
    )
    return _Memory(field.name, tensor, lengths, offsets)


def _require_alone(field: _Asked) -> None:
    if field.is_told_apart:
        raise SchemaError(
            "sequences that are apart have their lengths",
            expected="values= alone",
            actual="a list of tensors or a nested tensor, and lengths=, offsets= or target=",
        )


# --- in files --------------------------------------------------------------------------------------------


def _in_files(field: _Asked) -> _core.Column | _core.RaggedSource:
    paths = resolve_paths(field.values)
    encoded = [os.fsencode(path) for path in paths]
    if not field.is_told_apart:
        files = _core.FileSet(encoded, same_arrays=False)
        files.require_all_usable()
        if files.container != "mapping" or len(files.names) == 1:
            if _array_of(files, field) not in files.names and files.container != "sequence":
                files.column(field.name, field.name)  # says that there is none, or what it is
            values = files.values(field.name)
            _warn_of_left_out(files, field)
            return _core.RaggedSource.from_lengths(values, values.rows_per_shard)
        field = _with_arrays_beside(field, paths, files.names)
    files = _core.FileSet(encoded)
    files.require_all_usable()
    column = files.column(_array_of(files, field), field.name)
    _warn_of_left_out(files, field)
    if field.is_fixed:
        return column
    if field.lengths is not None:
        return _core.RaggedSource.from_lengths(column, _lengths_of(column, field.lengths))
    return _core.RaggedSource.from_offsets(column, _offsets_of(column, field.offsets))


def _warn_of_left_out(files: _core.FileSet, field: _Asked) -> None:
    if not (field.is_chosen or (field.is_mapped and field.name in files.names)):
        warn_of_left_out(files.left_out)


def _array_of(files: _core.FileSet, field: _Asked) -> str:
    """What the files call it: any name, where they hold one array and nobody has asked for a name."""
    lone = len(files.names) == 1 and (files.container == "array" or not field.is_named)
    lone = lone and not is_left_out(field.name, files.left_out)
    return files.names[0] if lone else field.name


def _with_arrays_beside(field: _Asked, paths: list[str], names: list[str]) -> _Asked:
    """The same, with the lengths or offsets that its files hold."""
    if field.name in names and "lengths" in names:
        return replace(field, lengths=paths)
    if field.name in names and "offsets" in names:
        return replace(field, offsets=paths)
    raise SchemaError(
        "the files hold several arrays, and none that tells samples apart",
        expected=f"{field.name!r}, and 'lengths' or 'offsets'",
        actual=", ".join(map(repr, names)),
        hint="Name the values with fields=, and give lengths= or offsets=.",
    )


def _lengths_of(column: _core.Column, source: Any) -> Rows:
    lengths, counts, paths = _numbers("lengths", source)
    rows = column.rows_per_shard
    if len(counts) == len(rows) > 1:  # a file of lengths for each file of values
        sums = np.diff(np.concatenate([[0], np.cumsum(lengths)])[np.concatenate([[0], np.cumsum(counts)])])
        for path, found, expected in zip(paths, sums, rows, strict=True):
            if found != expected:
                raise SchemaError(
                    "the lengths do not sum to the number of values",
                    path=path,
                    expected=f"{expected}, as in its file of values",
                    actual=str(found),
                )
    return lengths


def _offsets_of(column: _core.Column, source: Any) -> Rows:
    offsets, counts, paths = _numbers("offsets", source)
    rows = column.rows_per_shard
    if len(counts) != len(rows) or len(rows) == 1:
        return offsets
    ends = np.cumsum(counts)  # each file's count from the beginning of its values
    whole, first = [], 0
    for path, begin, end, count in zip(paths, ends - counts, ends, rows, strict=True):
        own = offsets[begin:end]
        if len(own) == 0 or own[0] != 0 or own[-1] != count:
            raise SchemaError(
                "offsets begin with 0 and end with the number of values",
                path=path,
                expected=f"0 to {count}, as in its file of values",
                actual=f"{own[0]} to {own[-1]}" if len(own) else "none",
            )
        whole.append(own[:-1] + first)
        first += int(count)
    return np.concatenate([*whole, [first]])


# --- numbers ---------------------------------------------------------------------------------------------


def _numbers(name: str, source: Any) -> tuple[Rows, Rows, list[str]]:
    """Lengths or offsets, shape (n,), int64; how many each file holds, and the files."""
    paths: list[str] = []
    source = list(source) if isinstance(source, Iterator) else _without_index(source)
    if isinstance(source, (Tensor, np.ndarray)) or (isinstance(source, Sequence) and _are_numbers(source)):
        numbers = _as_array(name, source)
        counts = np.array([len(numbers) if numbers.ndim else 0])
    elif isinstance(source, (str, os.PathLike, Iterable)) and not isinstance(source, (set, frozenset)):
        paths = resolve_paths(source)
        files = _core.FileSet([os.fsencode(path) for path in paths])
        column = files.column(files.names[0] if len(files.names) == 1 else name, name)
        table = Table(_core.Table([column]), Structure("tensor", (name,)))
        numbers, counts = _as_array(name, table.gather(np.arange(column.num_rows))[0]), column.rows_per_shard
    else:
        raise SchemaError(f"{name} must be numbers or files of them", actual=type(source).__name__)
    if numbers.ndim != 1 or (numbers.dtype.kind not in "iu" and len(numbers)):
        raise SchemaError(
            f"{name} must be whole numbers, one after another",
            path=paths[0] if paths else None,
            actual=f"{numbers.dtype} of shape {numbers.shape}",
        )
    return numbers.astype(np.int64), counts, paths


def _as_array(name: str, numbers: Any) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(numbers)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SchemaError(f"{name} must be numbers", actual=f"{type(numbers).__name__}: {error}") from error


def _are_numbers(source: Sequence[Any]) -> bool:
    return not isinstance(source, (str, bytes)) and (
        len(source) == 0 or not isinstance(source[0], (str, bytes, os.PathLike))
    )


def _without_index(source: Any) -> Any:
    """What has `__array__`, such as a column of a table, by position: an array of numbers, or a list."""
    if isinstance(source, (Tensor, np.ndarray)) or not hasattr(source, "__array__"):
        return source
    array = np.asarray(source)
    return array.tolist() if array.dtype.kind in "OU" else array


def _are_tensors(values: Any) -> bool:
    return isinstance(values, Sequence) and len(values) > 0 and isinstance(values[0], (Tensor, np.ndarray))


def _tensor_of(values: Any) -> Any:
    """The same memory as a tensor; read-only arrays too."""
    if not isinstance(values, np.ndarray):
        return values
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        try:
            return torch.from_numpy(values)
        except (TypeError, ValueError) as error:
            raise SchemaError("this is no array that torch can hold", actual=str(error)) from error
