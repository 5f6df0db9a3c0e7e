"""What every map-style dataset can do."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.utils.data
from torch import Tensor

from penstock import _core
from penstock.collate import Samples, Transform, TransformedSamples, collate, transformed
from penstock.errors import SchemaError
from penstock.layout import PADDED, Layout
from penstock.samplers.classes import ClassIndex, Label, Targets
from penstock.samplers.lookahead import BatchIndices
from penstock.table import (
    Batch,
    Sample,
    Structure,
    Table,
    Underway,
    field_shape,
    plain_indices,
    torch_dtype,
)

__all__ = ["ByClass", "ConcatDataset", "Dataset", "Field", "Subset"]

Rows = npt.NDArray[np.int64]

_ONE_A_SAMPLE = ("ids", "imgs", "lengths", "paths", "samples", "targets")
_OF_THE_WHOLE = ("datasets", "header_sizes", "tensors")  # a part does not hand them out as its own

TARGET_NAMES = ("label", "labels", "target", "targets", "y", "class")


@dataclass(frozen=True)
class Field:
    """One field of a dataset.

    Attributes:
        name: What it is called.
        dtype: Of its elements.
        shape: Of one row; `()` when a row is one number. -1 where rows differ.
        kind: "fixed": all rows have that shape; "ragged": they differ in their first dimension; images in
            height and width.
        rows: How many there are: the length of the dataset.
        shards: In how many files (or arrays) they lie.
        bytes: Of all rows together; 0 of images that differ in size, for these are not known beforehand.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    kind: Literal["fixed", "ragged"]
    rows: int
    shards: int
    bytes: int


def _place_in(cls: type, name: str) -> int:
    """Which of the classes that a class is made of defines this."""
    return next(place for place, each in enumerate(cls.__mro__) if name in vars(each))


class Dataset(torch.utils.data.Dataset[Any]):
    """Samples that the core assembles into batches.

    A `torch.utils.data.Dataset`: it works in every DataLoader, with `Subset`, `random_split`, samplers
    and worker processes. Sample i is row i of every field. Pickling carries paths and index, not data.

    A subclass may have a `__getitem__` of its own, such as one that adds something to
    `super().__getitem__(i)`. Every loader, `Subset`, split and sum then asks it for each sample: one Python
    call a sample, and nothing is assembled ahead; a `__getitems__` of its own is asked for each batch.
    `gather`, `begin`, `schema` and `targets` stay what the files hold.
    """

    transform: Transform | None
    _is_overridden: bool = False  # whether a subclass makes the samples: this one, or one it is made of
    _is_of_overridden: bool = False  # whether the latter does

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        one, several = (_place_in(cls, name) for name in ("__getitem__", "__getitems__"))
        if one < several:  # what is inherited knows nothing of it
            cls.__getitems__ = _one_by_one(cls)  # type: ignore[method-assign]
        cls._is_overridden = min(one, several) < cls.__mro__.index(Dataset)

    def __init__(
        self, table: Table, *, target: str | None = None, transform: Transform | None = None
    ) -> None:
        if target is not None and target not in table.structure.names:
            raise SchemaError(
                "target= names no field",
                expected=f"one of {', '.join(table.structure.names)}",
                actual=repr(target),
            )
        self._table = table
        self._rows: Rows | None = None  # rows of the table, where they are not all of them in order
        self._target = target
        self._targets: Rows | None = None
        self._fingerprint: int | None = None
        self.transform = transform

    @property
    def table(self) -> Table:
        """The core's view of this dataset."""
        return self._table

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields, in the order of a tuple sample."""
        return self.table.structure.names

    @property
    def schema(self) -> tuple[Field, ...]:
        """What the fields are."""
        return tuple(
            Field(
                name=field.name,
                dtype=torch_dtype(field),
                shape=field_shape(field),
                kind="ragged" if field.is_ragged else "fixed",
                rows=len(self),
                shards=self.table.core.num_shards(i),
                bytes=field.row_bytes * self._values(i, field),
            )
            for i, field in enumerate(self.table.fields)
        )

    def _values(self, i: int, field: _core.Field) -> int:
        """Of all rows: how many of `row_bytes`."""
        if field.is_image:
            return 0
        return int(self._lengths(i).sum()) if field.is_ragged else len(self)

    @property
    def lengths(self) -> Rows:
        """Of each sample's row of the first field that differs in length, shape (len(self),), int64.

        Known without reading any sample.

        Raises:
            AttributeError: All fields are fixed.
        """
        for i, field in enumerate(self.table.fields):
            if field.is_ragged and not field.is_image:
                return self._lengths(i)
        raise AttributeError(f"{type(self).__name__} has no rows of different lengths")

    def _lengths(self, field: int) -> Rows:
        lengths = self.table.core.lengths(field)
        return lengths if self._rows is None else lengths[self._rows]

    @property
    def fingerprint(self) -> int:
        """A number that tells this dataset from others.

        By its fields, the lengths of its shards, the sizes of its files and which samples were chosen; not by
        where the files lie, nor by what is in them.
        """
        if self._fingerprint is None:
            chosen = 0 if self._rows is None else zlib.crc32(np.ascontiguousarray(self._rows).data)
            self._fingerprint = self.table.core.fingerprint ^ chosen
        return self._fingerprint

    @property
    def targets(self) -> Rows:
        """Class labels, shape (len(self),), int64. Read at first use and kept.

        Raises:
            AttributeError: No field holds class labels; name one with `target=`.
        """
        if self._targets is None:
            self._targets = self._read_targets()
        return self._targets

    def __len__(self) -> int:
        return self.table.core.num_rows if self._rows is None else len(self._rows)

    def __getitem__(self, index: Any) -> Sample:
        """Sample `index`, an owned copy; negative numbers count from the end.

        A slice, or a list, array or tensor of numbers, gives the batch of these samples, as `gather` does,
        but as a tuple where that is a list.

        Raises:
            IndexError: The number is outside the dataset.
            SchemaError: It is no whole number.
            ShardError: Its file can no longer be read.
        """
        if not isinstance(index, int) and _is_several(index):
            return self._batch_of(range(len(self))[index] if isinstance(index, slice) else index)
        if self._is_of_overridden:
            return self._sample_of_part(index)
        fields = [field[0] for field in self._table_in(None).rows(self._to_rows([index]))]
        sample = self.table.structure.pack(fields)
        return sample if self.transform is None else transformed(self.transform, sample, index)

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Sample]:
        """The samples of one batch, for `collate`. Without a transform, nothing is read yet."""
        if self._is_of_overridden:
            return self._samples_of_parts(indices)
        if self.transform is not None:
            return self._transformed(self.transform, indices)
        return Samples(self._table_in(None), self._to_rows(plain_indices(indices)), self._begun(indices))

    def _batch_of(self, indices: Any) -> Batch:
        batch = collate(Dataset.__getitems__(self, indices))
        return tuple(batch) if isinstance(batch, list) else batch

    def _transformed(self, transform: Transform, indices: Any) -> TransformedSamples:
        fields = self._table_in(None).rows(self._to_rows(plain_indices(indices)))
        pack = self.table.structure.pack
        samples = (
            transformed(transform, pack([field[k] for field in fields]), row) for k, row in enumerate(indices)
        )
        return TransformedSamples(samples, self.table)

    def _sample_of_part(self, index: int) -> Sample:
        """A sample of a dataset that this one is made of, as that makes it."""
        raise NotImplementedError

    def _samples_of_parts(self, indices: Any) -> Sequence[Sample]:
        """Those of a batch."""
        raise NotImplementedError

    def _said_of_override(self) -> str:
        return f"{type(self).__name__}: samples are made one by one in Python, by a __getitem__ of its own"

    def _made_of(self, parts: Sequence[Dataset]) -> None:
        """Leave samples to the datasets that this one is made of, where they have their own way."""
        if any(part._is_overridden for part in parts):
            self._is_overridden = self._is_of_overridden = True

    def gather(self, indices: Any, out: Any = None, pin_memory: bool = False) -> Batch:
        """Assemble the given rows into one batch.

        Args:
            indices: Row numbers, shape (batch,): a sequence of ints, or an integer array or tensor. Any
                order, repeats allowed, negative ones count from the end.
            out: Buffers to fill, put together like a batch: for each field a contiguous CPU tensor of
                shape (batch, *row_shape) and the field's dtype. Default: new ones.
            pin_memory: Assemble in pinned memory when there is an accelerator. Default: False.

        Returns:
            What torch's `default_collate` makes of these samples: one tensor per field, shape (batch,
            *row_shape), alone, in a list or in a dict; or `out`. Rows of different lengths, and images of
            different sizes, are padded, with their lengths or sizes, as by `Collate()`. Yours to keep.

        Raises:
            IndexError: A row number is outside the dataset.
            SchemaError: `indices` are no whole numbers, or `out` does not fit.
            ShardError: A file can no longer be read.
        """
        indices = plain_indices(indices)
        rows = self._to_rows(indices)
        if out is not None and (self.transform is not None or self.table.is_ragged):
            why = "through a transform" if self.transform else "with rows of different lengths"
            raise SchemaError(f"out= cannot be filled {why}", hint="Use a dataset without.")
        if self.transform is not None:
            return collate(self._transformed(self.transform, indices))
        table = self._table_in(None)
        if out is None:
            return table.batch(rows, pin_memory=pin_memory)
        table.gather_into(rows, self.table.structure.unpack(out))
        return out

    def subset(self, indices: Any) -> Subset:
        """The given samples, in that order, as a dataset that stays native.

        Raises:
            IndexError: A number is outside the dataset.
        """
        return Subset(self, indices)

    def by_class(self, targets: Targets | None = None) -> ByClass:
        """The samples of each class, as datasets that stay native.

        Args:
            targets: Labels, shape (len(self),): ints or strings, or a `ClassIndex`. Default: `self.targets`.

        Returns:
            A mapping from label to `Subset`, in the order of the labels. Subsets are made when asked for.

        Raises:
            ArgumentError: There are more labels than samples, or fewer.
            AttributeError: No field holds class labels, and none are given.
        """
        return ByClass(self, self.targets if targets is None else targets)

    @property
    def shard_lengths(self) -> Rows:
        """Samples of each file of the largest field, shape (shards,), int64; one where they were chosen."""
        if self._rows is not None:
            return np.array([len(self)])
        fields = self.table.fields
        return self.table.core.rows_per_shard(max(range(len(fields)), key=lambda i: fields[i].row_bytes))

    def will_need(self, first: Rows, count: Rows) -> None:
        """Ask the system to read samples soon; returns before they are there.

        Does nothing for data that memory can hold: that is read ahead anyway.

        Args:
            first: Sample numbers, shape (ranges,), int64.
            count: How many from each, shape (ranges,), int64.

        Raises:
            IndexError: A sample is outside the dataset.
            ShardError: A file can no longer be read.
        """
        if self._rows is not None:  # chosen ones: where they lie close enough to be read in one go
            ranges = [self._rows[begin : begin + n] for begin, n in zip(first, count, strict=True) if n]
            spans = [(rows.min(), np.ptp(rows) + 1) for rows in ranges if np.ptp(rows) < 2 * len(rows)]
            first, count = np.array(spans, np.int64).reshape(-1, 2).T
        self.table.core.will_need(first, count)

    def __add__(self, other: Any) -> Any:
        """This dataset and then another one: native when both are, with the same fields."""
        if isinstance(other, Dataset):
            return ConcatDataset([self, other])
        return torch.utils.data.ConcatDataset([self, other])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_targets": None}

    def __repr__(self) -> str:
        fields = ", ".join(f"{field.name}: {_short(field)}" for field in self.schema)
        return f"{type(self).__name__}({len(self)} samples; {fields})"

    def _to_rows(self, indices: Any) -> Any:
        """Rows of the table for samples of this dataset."""
        return indices if self._rows is None else self._rows[_core.row_numbers(indices, len(self))]

    def _begun(self, indices: Any) -> Underway | None:
        """The batch of these indices if it was begun ahead of time; and begin the ones after it."""
        if not isinstance(indices, BatchIndices) or indices.lookahead is None:
            return None
        begin = partial(self.begin, layout=self.table.usual_layout)
        begun: Underway | None = indices.lookahead.claim(self, indices, begin)
        return begun

    def begin(
        self,
        indices: Any,
        *,
        layout: Layout = PADDED,
        pin_memory: bool = False,
        drop_cache: bool = False,
        epoch: int | None = None,
    ) -> Underway:
        """Have a batch assembled by the core's threads while something else is done.

        Args:
            indices: As for `gather`.
            layout: Of rows of different lengths. Default: `Layout()`.
            pin_memory: Assemble in pinned memory when there is an accelerator. Default: False.
            drop_cache: Let the system forget the parts of files that were read, where rows follow one
                another or take 64 KiB and more. Default: False.
            epoch: For what is random about the samples, if anything is. Default: as `set_epoch` said.

        Returns:
            The batch under way: `.batch()` waits for it. Dropping it calls it off.

        Raises:
            IndexError: A row number is outside the dataset.
            SchemaError: `indices` are no whole numbers.
        """
        rows = self._to_rows(plain_indices(indices))
        table = self._table_in(epoch)
        return table.begin(rows, layout=layout, pin_memory=pin_memory, drop_cache=drop_cache)

    def random_key(self, epoch: int | None = None) -> int:
        """What decides, together with a sample's number, how it is drawn at random: 64 bits.

        Args:
            epoch: Which one. Default: as `set_epoch` said; if it said nothing, drawn from torch's random
                numbers.
        """
        return 0

    def _table_in(self, epoch: int | None) -> Table:
        """The table in an epoch: itself, unless something is random about it."""
        table = self.table
        return table.in_epoch(self.random_key(epoch)) if table.is_random else table

    def _all_rows(self) -> Rows:
        return np.arange(self.table.core.num_rows) if self._rows is None else self._rows

    def _target_field(self) -> str | None:
        if self._target is not None:
            return self._target
        names = [field.name for field in self.schema if field.name in TARGET_NAMES and field.shape == ()]
        return names[0] if names else None

    def _read_targets(self) -> Rows:
        name = self._target_field()
        if name is None:
            raise AttributeError(f"{type(self).__name__} has no class labels: name their field with target=")
        core = self.table.core.select(self.fields.index(name))
        table = Table(core, Structure("tensor", (name,)))
        if table.is_ragged:
            raise SchemaError(
                "class labels must be one a row", field=name, actual="rows of different lengths"
            )
        labels = table.gather(self._all_rows())[0]
        if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
            raise SchemaError(
                "class labels must be whole numbers, one a row",
                field=name,
                actual=f"{labels.dtype} rows of shape {tuple(labels.shape[1:])}",
            )
        return labels.to(torch.int64).numpy()


class Subset(Dataset):
    """Chosen samples of a dataset, in a given order, repeats allowed.

    Native: batches are gathered from the whole dataset's files at once. It has the whole dataset's attributes
    (`classes`, `class_to_idx`, `root`); of those with an entry for each sample (`samples`, `imgs`, `paths`,
    `ids`, `targets`, `lengths`) the entries of its own samples, in its order; no `tensors` and no
    `header_sizes`.

    Args:
        dataset: What to choose from.
        indices: Sample numbers, shape (n,), ints; negative ones count from the end.

    Raises:
        IndexError: A number is outside the dataset.
    """

    def __init__(self, dataset: Dataset, indices: Any) -> None:
        super().__init__(dataset.table, target=dataset._target, transform=dataset.transform)
        self.dataset = dataset
        self.indices = _core.row_numbers(plain_indices(indices), len(dataset))
        self._rows = np.asarray(dataset._to_rows(self.indices))
        self._made_of([dataset])

    @property
    def table(self) -> Table:
        """See `Dataset`."""
        if self._table is None:  # it has come out of a pickle, maybe before the whole dataset has
            self._table = self.dataset.table
        return self._table

    def _sample_of_part(self, index: int) -> Sample:
        return self.dataset[int(self.indices[_core.row_numbers([index], len(self))[0]])]

    def _samples_of_parts(self, indices: Any) -> Sequence[Sample]:
        numbers = _core.row_numbers(plain_indices(indices), len(self))
        return self.dataset.__getitems__(self.indices[numbers].tolist())

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__(), "_table": None}
        if self.transform is self.dataset.transform:
            state.pop("transform", None)  # `__getattr__` finds it: the dataset may have to make it again
        return state

    def __getattr__(self, name: str) -> Any:
        """Attributes of the whole dataset; of those with an entry for each sample, its own entries."""
        if name.startswith("_") or "dataset" not in self.__dict__:
            raise AttributeError(name)
        if name in _OF_THE_WHOLE:
            raise AttributeError(f"a {type(self).__name__} has no {name} of its own: ask its dataset")
        whole = getattr(self.dataset, name)
        return self._chosen(whole) if name in _ONE_A_SAMPLE else whole

    def _chosen(self, whole: Any) -> Any:
        """Of what there is one of for each sample of the whole dataset, those of these samples."""
        if not isinstance(whole, (Sequence, np.ndarray, Tensor)) or len(whole) != len(self.dataset):
            return whole  # a subclass means something else by the name
        if isinstance(whole, Sequence):
            at = getattr(whole, "at", None)  # what is made when it is looked at
            return [whole[i] for i in self.indices.tolist()] if at is None else at(self.indices)
        return whole[self.indices]

    def random_key(self, epoch: int | None = None) -> int:
        """That of the whole dataset: a sample is drawn there as it is here."""
        return self.dataset.random_key(epoch)

    def _read_targets(self) -> Rows:
        return self.dataset.targets[self.indices]


class ByClass(Mapping[Label, Subset]):
    """The samples of each class of a dataset: a mapping from label to `Subset`."""

    def __init__(self, dataset: Dataset, targets: Targets) -> None:
        self.dataset = dataset
        self.index = ClassIndex.over(dataset, targets)

    def __getitem__(self, label: Label) -> Subset:
        return self.dataset.subset(self.index[label])

    def __iter__(self) -> Iterator[Label]:
        return iter(self.index)

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"ByClass({len(self)} classes of {self.dataset!r})"


class ConcatDataset(Dataset):
    """Datasets of the same fields one after another, as one native dataset.

    Args:
        datasets: Two or more; their transforms must be the same.

    Raises:
        SchemaError: Their fields, dtypes, row shapes or transforms disagree.
    """

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        first = datasets[0]
        for other in datasets[1:]:
            if other.table.structure != first.table.structure or other.transform != first.transform:
                raise SchemaError(
                    "the datasets disagree in their fields or transforms",
                    expected=repr(first),
                    actual=repr(other),
                    hint="torch.utils.data.ConcatDataset takes any datasets, sample by sample.",
                )
        super().__init__(_joined(datasets), target=first._target, transform=first.transform)
        self.datasets = list(datasets)
        self._made_of(datasets)
        if any(dataset._rows is not None for dataset in datasets):
            firsts = np.cumsum([0, *(dataset.table.core.num_rows for dataset in datasets)])
            parts = [first + dataset._all_rows() for first, dataset in zip(firsts, datasets, strict=False)]
            self._rows = np.concatenate(parts)

    def _sample_of_part(self, index: int) -> Sample:
        row = int(_core.row_numbers([index], len(self))[0])
        for dataset in self.datasets:
            if row < len(dataset):
                return dataset[row]
            row -= len(dataset)
        raise AssertionError("a row is in one of the datasets")

    def _samples_of_parts(self, indices: Any) -> Sequence[Sample]:
        return TransformedSamples(map(self._sample_of_part, _as_ints(indices)), self.table)

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__(), "_table": None}
        if self.transform is self.datasets[0].transform:
            del state["transform"]  # the dataset may have to make it again
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._table = _joined(self.datasets)
        if "transform" not in state:
            self.transform = self.datasets[0].transform

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, where samples are drawn at random: as the first dataset's."""
        for dataset in self.datasets:
            if hasattr(dataset, "set_epoch"):
                dataset.set_epoch(epoch)

    def random_key(self, epoch: int | None = None) -> int:
        """That of the first dataset, for all samples."""
        return self.datasets[0].random_key(epoch)

    def _read_targets(self) -> Rows:
        return np.concatenate([dataset.targets for dataset in self.datasets])


def _joined(datasets: Sequence[Dataset]) -> Table:
    """The rows of all, one after another."""
    core = datasets[0].table.core
    for other in datasets[1:]:
        core = core.concatenate(other.table.core)
    return Table(core, datasets[0].table.structure)


def _one_by_one(cls: type[Dataset]) -> Any:
    """`__getitems__` of a class that has a `__getitem__` of its own."""

    def __getitems__(self: Dataset, indices: Any) -> TransformedSamples:
        return TransformedSamples([cls.__getitem__(self, i) for i in _as_ints(indices)], self.table)

    return __getitems__


def _is_several(index: Any) -> bool:
    is_array = isinstance(index, (np.ndarray, Tensor)) and index.ndim > 0
    return is_array or isinstance(index, (list, range, slice))


def _as_ints(indices: Any) -> Any:
    """As a Python class expects them."""
    indices = plain_indices(indices)
    return indices.tolist() if isinstance(indices, np.ndarray) else indices


def _short(field: Field) -> str:
    return f"{str(field.dtype).removeprefix('torch.')} {field.shape}"


def require_tensors(values: Sequence[Any]) -> list[Tensor]:
    """Values that are all tensors with rows in host memory.

    Raises:
        SchemaError: One is not.
    """
    for i, value in enumerate(values):
        if (
            not isinstance(value, Tensor)
            or value.layout != torch.strided
            or value.device.type != "cpu"
            or value.ndim == 0
        ):
            found = (
                f"a {value.layout} tensor on {value.device}, {value.ndim}-d"
                if isinstance(value, Tensor)
                else type(value).__name__
            )
            raise SchemaError("this is no tensor with rows in host memory", field=str(i), actual=found)
    return list(values)
