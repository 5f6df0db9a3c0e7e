"""Samples of different lengths."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing import context
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from penstock import _core
from penstock.collate import Transform
from penstock.datasets.base import TARGET_NAMES, Dataset, Rows, require_tensors
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
    of `fields`.

    Args:
        values: A path, a folder, a glob pattern or a list of paths, as in `ShardDataset`; a tensor or array,
            or a list of them; a `torch.nested` tensor of layout `torch.jagged`; or a mapping from field to
            one of these. Files that hold arrays called `values` and `lengths`, or `offsets`, need no more.
        lengths: Of each sample, shape (samples,), whole numbers: files, or a tensor, an array or a list. They
            sum to the number of values. With a mapping as `values` they hold for all fields but `target`; or
            they are a mapping themselves, and fields that it does not name have one row a sample.
        offsets: Instead: where each sample begins, and at the end the number of values, shape (samples + 1,).
            As many files as there are of values: each counts from the beginning of its file.
        fields: With a mapping: a name, or a tuple of names, as in `ShardDataset`. With files of several
            arrays: the one that holds the values. Default: all; `values`.
        target: The field with the class labels, for `targets`. Default: as in `ShardDataset`.
        transform: Called with each sample; the slow path, one Python call a sample. Default: none.

    Raises:
        ShardError: A file is missing or unreadable.
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
            asked = [_Field.of_mapping(name, values, lengths, offsets, target) for name in structure.names]
        else:
            name = fields if isinstance(fields, str) else _VALUES if fields is None else distinct(fields)[0]
            structure = Structure("tensor", (name,))
            asked = [_Field(name, values, lengths, offsets)]
        table = Table(_core.Table([field.open() for field in asked]), structure)
        super().__init__(table, target=target, transform=transform)
        self._memory = asked if any(field.is_in_memory for field in asked) else None
        self._shareable: list[_Field] | None = None

    def __reduce__(self) -> Any:
        """Files by their index, memory by its contents."""
        if self._memory is None:
            return super().__reduce__()
        return _rebuild, (self._for_another_process(), self.table.structure, self._target, self.transform)

    def _for_another_process(self) -> list[_Field] | None:
        """Copies, while a worker process is being started: torch moves what it sends to shared memory."""
        if context.get_spawning_popen() is None or self._memory is None:
            return self._memory
        if self._shareable is None:
            self._shareable = [field.copied() for field in self._memory]
        return self._shareable


def _rebuild(
    asked: list[_Field], structure: Structure, target: str | None, transform: Transform | None
) -> RaggedDataset:
    dataset = RaggedDataset.__new__(RaggedDataset)
    table = Table(_core.Table([field.open() for field in asked]), structure)
    Dataset.__init__(dataset, table, target=target, transform=transform)
    dataset._memory, dataset._shareable = asked, None
    return dataset


def _structure(values: Mapping[str, Values], fields: str | Sequence[str] | None) -> Structure:
    names = (fields,) if isinstance(fields, str) else distinct(values if fields is None else fields)
    for name in names:
        if name not in values:
            raise SchemaError(
                "fields= names what values= does not", expected=f"one of {list(values)}", actual=repr(name)
            )
    return Structure("tensor" if isinstance(fields, str) else "dict" if fields is None else "tuple", names)


class _Field:
    """One field: its values, and what tells its samples apart."""

    def __init__(
        self,
        name: str,
        values: Values,
        lengths: Numbers | None,
        offsets: Numbers | None,
        *,
        fixed: bool = False,
    ) -> None:
        self.name = name
        self.lengths = lengths
        self.offsets = offsets
        self.fixed = fixed
        self.values: Any = values
        self.is_in_memory = isinstance(values, (Tensor, np.ndarray)) or _are_tensors(values)
        if self.is_in_memory:
            self._take_memory()

    @classmethod
    def of_mapping(
        cls, name: str, values: Mapping[str, Values], lengths: Any, offsets: Any, target: str | None
    ) -> _Field:
        """The field of that name."""
        numbers = lengths if offsets is None else offsets
        if isinstance(numbers, Mapping):
            numbers = numbers.get(name)
            fixed = numbers is None
        else:
            fixed = name == target if target is not None else name in TARGET_NAMES
        numbers = None if fixed else numbers
        if offsets is None:
            return cls(name, values[name], numbers, None, fixed=fixed)
        return cls(name, values[name], None, numbers, fixed=fixed)

    def copied(self) -> _Field:
        """Another of the same, with tensors of its own."""
        values = self.values.clone() if self.is_in_memory else self.values
        return _Field(self.name, values, self.lengths, self.offsets, fixed=self.fixed)

    def open(self) -> _core.Column | _core.RaggedSource:
        """Its rows."""
        try:
            column = column_in_memory(self.name, self.values) if self.is_in_memory else self._open_files()
            if self.fixed:
                return column
            if self.lengths is not None:
                return _core.RaggedSource.from_lengths(column, self._lengths(column))
            if self.offsets is not None:
                return _core.RaggedSource.from_offsets(column, self._offsets(column))
        except SchemaError as error:
            error.field = error.field or self.name
            raise
        return _core.RaggedSource.from_lengths(column, column.rows_per_shard)

    def _take_memory(self) -> None:
        """One tensor of values, and lengths or offsets as an array."""
        nested: Any = self.values
        if isinstance(nested, Tensor) and nested.is_nested:
            if nested.layout == torch.jagged and nested.lengths() is None:  # type: ignore[attr-defined]
                self.offsets = nested.offsets().numpy()  # type: ignore[attr-defined]
                self.values = nested.values()
            else:
                self.values = nested.unbind()
        if not isinstance(self.values, (Tensor, np.ndarray)):
            tensors = require_tensors([_tensor_of(each) for each in self.values])
            require_alike(self.name, tensors)
            self.lengths = np.array([len(tensor) for tensor in tensors], np.int64)
            self.values = torch.cat(tensors)
        self.values = require_tensors([_tensor_of(self.values)])[0]
        if not self.fixed and self.lengths is None and self.offsets is None:
            raise SchemaError(
                "values in one tensor need lengths= or offsets=",
                field=self.name,
                hint="Or give a list of tensors.",
            )

    def _open_files(self) -> _core.Column:
        paths = [os.fsencode(path) for path in resolve_paths(self.values)]
        files = _core.FileSet(paths, same_arrays=False)
        files.require_all_usable()
        if files.container == "mapping" and len(files.names) > 1 and not self._are_told_apart():
            self._find_beside(files.names)
        if not self._are_told_apart():
            return files.values(self.name)
        files = _core.FileSet(paths)
        return files.column(files.names[0] if len(files.names) == 1 else self.name, self.name)

    def _are_told_apart(self) -> bool:
        return self.fixed or self.lengths is not None or self.offsets is not None

    def _find_beside(self, names: list[str]) -> None:
        """Lengths or offsets in the files of the values."""
        if self.name in names and "lengths" in names:
            self.lengths = self.values
        elif self.name in names and "offsets" in names:
            self.offsets = self.values
        else:
            raise SchemaError(
                "the files hold several arrays, and none that tells samples apart",
                expected=f"{self.name!r}, and 'lengths' or 'offsets'",
                actual=", ".join(map(repr, names)),
                hint="Name the values with fields=, and give lengths= or offsets=.",
            )

    def _lengths(self, column: _core.Column) -> Rows:
        lengths, counts, paths = _numbers("lengths", self.lengths)
        rows = column.rows_per_shard
        if len(counts) == len(rows) > 1:  # a file of lengths for each file of values
            ends = np.cumsum(counts)
            sums = np.diff(np.concatenate([[0], np.cumsum(lengths)])[np.concatenate([[0], ends])])
            for path, found, expected in zip(paths, sums, rows, strict=True):
                if found != expected:
                    raise SchemaError(
                        "the lengths do not sum to the number of values",
                        path=path,
                        expected=f"{expected}, as in its file of values",
                        actual=str(found),
                    )
        return lengths

    def _offsets(self, column: _core.Column) -> Rows:
        offsets, counts, paths = _numbers("offsets", self.offsets)
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


def _numbers(name: str, source: Any) -> tuple[Rows, Rows, list[str]]:
    """Lengths or offsets, shape (n,), int64; how many each file holds, and the files."""
    paths: list[str] = []
    if isinstance(source, (Tensor, np.ndarray)) or (isinstance(source, Sequence) and _are_numbers(source)):
        numbers = np.asarray(source)
        counts = np.array([len(numbers) if numbers.ndim else 0])
    else:
        paths = resolve_paths(source)
        files = _core.FileSet([os.fsencode(path) for path in paths])
        column = files.column(files.names[0] if len(files.names) == 1 else name, name)
        table = Table(_core.Table([column]), Structure("tensor", (name,)))
        numbers, counts = table.gather(np.arange(column.num_rows))[0].numpy(), column.rows_per_shard
    if numbers.ndim != 1 or (numbers.dtype.kind not in "iu" and len(numbers)):
        raise SchemaError(
            f"{name} must be whole numbers, one after another",
            path=paths[0] if paths else None,
            actual=f"{numbers.dtype} of shape {numbers.shape}",
        )
    return numbers.astype(np.int64), counts, paths


def _are_numbers(source: Sequence[Any]) -> bool:
    return not isinstance(source, (str, bytes)) and (
        len(source) == 0 or not isinstance(source[0], (str, bytes, os.PathLike))
    )


def _are_tensors(values: Any) -> bool:
    return isinstance(values, Sequence) and len(values) > 0 and isinstance(values[0], (Tensor, np.ndarray))


def _tensor_of(values: Any) -> Any:
    """The same memory as a tensor; read-only arrays too."""
    if not isinstance(values, np.ndarray):
        return values
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(values)
