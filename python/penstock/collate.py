"""How rows become batches: the lazy samples that a dataset gives, and what assembles them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, overload

import torch
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info
from torch.utils.data._utils import collate as torch_collate

from penstock import _core
from penstock.device import has_accelerator
from penstock.errors import SampleError, SchemaError

__all__ = ["Batch", "Collate", "Sample", "Samples", "collate"]

Sample: TypeAlias = Any
"""A tensor, a tuple of tensors or a dict of tensors; with a transform, whatever it returns."""

Batch: TypeAlias = Any
"""What torch's `default_collate` makes of samples: a tensor, a list of tensors or a dict of tensors."""

Transform: TypeAlias = Callable[[Any], Any]


class _TensorSample(Tensor):
    """A tensor that says where it comes from, so that the default collate finds the native path."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


class _TupleSample(tuple[Any, ...]):
    """Likewise a tuple."""


class _DictSample(dict[str, Tensor]):
    """Likewise a dict."""


@dataclass(frozen=True)
class Structure:
    """How the fields of a sample are put together: a lone tensor, a tuple, a dict by name, or (X, y).

    Attributes:
        kind: Which of these; "pair" is (X, y).
        names: Of the fields, in the order of their tensors.
        first: How X is put together, of all tensors but the last, in a pair.
    """

    kind: Literal["tensor", "tuple", "dict", "pair"]
    names: tuple[str, ...]
    first: Structure | None = None

    def pack(self, tensors: Sequence[Tensor]) -> Any:
        """Tensors, one per field, as a user expects them of a sample."""
        if self.kind == "tensor":
            return tensors[0]
        if self.first is not None:
            return self.first.pack(tensors[:-1]), tensors[-1]
        return tuple(tensors) if self.kind == "tuple" else dict(zip(self.names, tensors, strict=True))

    def pack_batch(self, tensors: Sequence[Tensor]) -> Batch:
        """The same for a batch: as `default_collate` does it, where a tuple becomes a list."""
        if self.first is not None:
            return [self.first.pack_batch(tensors[:-1]), tensors[-1]]
        return list(tensors) if self.kind == "tuple" else self.pack(tensors)

    def pack_marked(self, tensors: Sequence[Tensor]) -> Any:
        """The same for a sample that the default collate shall recognise."""
        if self.kind == "tensor":
            return tensors[0].as_subclass(_TensorSample)
        packed = self.pack(tensors)
        return _DictSample(packed) if self.kind == "dict" else _TupleSample(packed)

    def unpack(self, packed: Any) -> list[Tensor]:
        """The inverse of `pack`, for an `out=` argument.

        Raises:
            SchemaError: It is put together differently.
        """
        if self.kind == "tensor" and isinstance(packed, Tensor):
            return [packed]
        if self.kind == "tuple" and isinstance(packed, (tuple, list)) and len(packed) == len(self.names):
            return list(packed)
        if self.first is not None and isinstance(packed, (tuple, list)) and len(packed) == 2:
            return [*self.first.unpack(packed[0]), packed[1]]
        if self.kind == "dict" and isinstance(packed, dict) and set(packed) == set(self.names):
            return [packed[name] for name in self.names]
        raise SchemaError(
            "out= is not put together like a batch",
            expected=f"a {self.kind} of {', '.join(map(repr, self.names))}",
            actual=type(packed).__name__,
        )


def torch_dtype(field: _core.Field) -> torch.dtype:
    """The torch dtype of a field.

    Raises:
        SchemaError: The installed torch has no such dtype.
    """
    dtype = getattr(torch, field.dtype, None)
    if isinstance(dtype, torch.dtype):
        return dtype
    raise SchemaError(
        f"torch {torch.__version__} has no dtype {field.dtype}",
        field=field.name,
        hint="Install a newer torch.",
    )


def plain_indices(indices: Any) -> Any:
    """Row numbers as the core takes them: a list, a tuple, a range or an array.

    Raises:
        SchemaError: They are no sequence.
    """
    if isinstance(indices, Tensor):
        return indices.detach().cpu().numpy()
    if hasattr(indices, "__len__"):
        return indices
    try:
        return list(indices)
    except TypeError:
        raise SchemaError(
            "row numbers must be a sequence",
            expected="ints, or an integer array",
            actual=type(indices).__name__,
        ) from None


class Table:
    """A core table and the structure of its samples: all that is needed to assemble batches.

    Thread-safe and immutable.
    """

    def __init__(self, core: _core.Table, structure: Structure) -> None:
        self.core = core
        self.structure = structure
        self.fields = core.fields
        self._dtypes = [torch_dtype(field) for field in self.fields]
        self._row_shapes = [field.row_shape for field in self.fields]
        self.row_bytes = sum(field.row_bytes for field in self.fields)
        self.row_work = core.row_work

    def __reduce__(self) -> tuple[Any, ...]:
        return Table, (self.core, self.structure)

    def gather(self, indices: Any, *, pin_memory: bool = False) -> list[Tensor]:
        """One new tensor per field, shape (len(indices), *row_shape)."""
        if pin_memory:
            return self.gather_into(indices, self._pinned(len(indices)))
        if get_worker_info() is not None:
            _core.set_default_num_threads(1)
            return self.gather_into(indices, [self._shared(i, len(indices)) for i in range(len(self.fields))])
        return self._from_capsules(self.core.gather(indices), len(indices))

    def begin(self, indices: Any, *, pin_memory: bool = False, drop_cache: bool = False) -> Underway:
        """Have a batch assembled by the core's threads."""
        return Underway(self, indices, pin_memory, drop_cache)

    def gather_into(self, indices: Any, outs: list[Tensor]) -> list[Tensor]:
        """Fill and return the given tensors, one per field.

        Raises:
            SchemaError: One is not contiguous, on the CPU, and of its field's dtype and shape.
        """
        for i, out in enumerate(outs):
            self._require_fits(i, out, len(indices))
        self.core.gather_into(indices, self._to_capsules(outs))
        return outs

    def _from_capsules(self, capsules: list[Any], count: int) -> list[Tensor]:
        return [self._from_capsule(i, capsule, count) for i, capsule in enumerate(capsules)]

    def _from_capsule(self, i: int, capsule: Any, count: int) -> Tensor:
        tensor: Tensor = torch.from_dlpack(capsule)
        if self.fields[i].is_dlpack:
            return tensor
        return tensor.view(self._dtypes[i]).view(self._shape(i, count))

    def _to_capsules(self, outs: list[Tensor]) -> list[Any]:
        return [self._to_capsule(i, out) for i, out in enumerate(outs)]

    def _to_capsule(self, i: int, out: Tensor) -> Any:
        flat = out.detach()
        if not self.fields[i].is_dlpack:
            flat = flat.view(-1).view(torch.uint8)
        return torch.utils.dlpack.to_dlpack(flat)

    def _shape(self, i: int, count: int) -> tuple[int, ...]:
        return (count, *self._row_shapes[i])

    def _pinned(self, count: int) -> list[Tensor]:
        pin = has_accelerator()
        return [
            torch.empty(self._shape(i, count), dtype=dtype, pin_memory=pin)
            for i, dtype in enumerate(self._dtypes)
        ]

    def _shared(self, i: int, count: int) -> Tensor:
        """Shared memory, as torch's own collate allocates it in a worker: one copy less on the way out."""
        storage = torch.UntypedStorage._new_shared(count * self.fields[i].row_bytes)
        return torch.empty(0, dtype=self._dtypes[i]).set_(storage).view(self._shape(i, count))

    def _require_fits(self, i: int, out: Any, count: int) -> None:
        if not isinstance(out, Tensor):
            found = type(out).__name__
        elif not out.is_cpu:
            found = f"one on {out.device}"
        elif out.layout != torch.strided or not out.is_contiguous():
            found = "one that is not contiguous"
        elif out.dtype != self._dtypes[i] or out.shape != (count, *self._row_shapes[i]):
            found = f"{out.dtype} of shape {tuple(out.shape)}"
        else:
            return
        needed = f"a contiguous {self._dtypes[i]} tensor of shape {self._shape(i, count)} on the CPU"
        raise SchemaError("out= does not fit", field=self.fields[i].name, expected=needed, actual=found)


class Underway:
    """A batch that the core's threads assemble. Dropping it calls it off.

    Small ones are left for whoever asks: waking a thread would cost more.
    """

    WORTH_A_THREAD = 1 << 16  # bytes, or other work that takes as long

    def __init__(self, table: Table, indices: Any, pin_memory: bool, drop_cache: bool) -> None:
        self._table = table
        self._count = len(indices)
        self.bytes = self._count * table.row_bytes
        self._pinned: list[Tensor] | None = None
        if pin_memory:
            self._pinned = table._pinned(self._count)
            self._core = _core.Pending(table.core, indices, table._to_capsules(self._pinned))
        else:
            self._core = _core.Pending(table.core, indices)
        if drop_cache:
            self._core.drop_cache()
        if self._count * table.row_work >= self.WORTH_A_THREAD:
            self._core.submit()

    def times(self) -> tuple[int, int]:
        """When its assembly began and ended, in ns as of `time.perf_counter_ns`, once it is there."""
        return self._core.times()

    def tensors(self) -> list[Tensor]:
        """One tensor per field, shape (len(indices), *row_shape); to be asked for once.

        Raises:
            ShardError: A file can no longer be read.
        """
        if self._pinned is not None:
            self._core.wait()
            return self._pinned
        return self._table._from_capsules(self._core.take(), self._count)


class Samples(Sequence[Any]):
    """The samples of one batch, before any byte of them has been read.

    A true sequence of ordinary samples for whoever looks at them one by one; `collate`, and torch's
    default collate, ask for the whole batch at once instead and make no single samples (but for the
    first, which torch looks at to know what they are).

    Looking at one sample assembles the whole batch; the sample is a copy of its rows. What is done to a
    sample shows in the batch that is made of it, as with a list.
    """

    def __init__(self, table: Table, rows: Any, underway: Underway | None = None) -> None:
        self._table = table
        self._rows = rows
        self._underway = underway
        self._tensors: list[Tensor] | None = None
        self._given: dict[int, tuple[Sample, list[Tensor]]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Samples({len(self)} of {', '.join(self._table.structure.names)})"

    @overload
    def __getitem__(self, i: int) -> Sample: ...
    @overload
    def __getitem__(self, i: slice) -> list[Sample]: ...
    def __getitem__(self, i: int | slice) -> Sample | list[Sample]:
        if isinstance(i, slice):
            return [self[k] for k in range(len(self))[i]]
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of a batch of {len(self)}")
        i %= len(self)
        if i not in self._given:
            with torch.inference_mode(False):  # what is done to a sample is counted in its version
                fields = [tensor[i].clone() for tensor in self._assembled()]
                self._given[i] = self._table.structure.pack_marked(fields), fields
        return self._given[i][0]

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def batch(self, *, pin_memory: bool = False) -> Batch:
        """Assemble the batch. Each call gives tensors of its own.

        Args:
            pin_memory: Assemble in pinned memory when there is an accelerator. Default: False.

        Returns:
            What torch's `default_collate` would make of these samples. Yours to keep.

        Raises:
            IndexError: A row number is outside the dataset.
            ShardError: A file can no longer be read.
        """
        if any(_was_changed(sample, fields) for sample, fields in self._given.values()):
            return default_collate([_plain(sample) for sample in self])
        tensors, self._tensors = self._tensors, None
        pin_memory = pin_memory and has_accelerator()
        if tensors is None or pin_memory:
            tensors = self._gathered(pin_memory)
        return self._table.structure.pack_batch(tensors)

    def _gathered(self, pin_memory: bool = False) -> list[Tensor]:
        underway, self._underway = self._underway, None
        if underway is None or pin_memory:
            return self._table.gather(self._rows, pin_memory=pin_memory)
        return underway.tensors()

    def _assembled(self) -> list[Tensor]:
        if self._tensors is None:
            self._tensors = self._gathered()
        return self._tensors


def _was_changed(sample: Sample, fields: list[Tensor]) -> bool:
    """Whether anything was done to a sample since it was made of these fields."""
    same = isinstance(sample, Tensor) or list(map(id, _flat(sample))) == list(map(id, fields))
    return not same or any(field._version > 0 for field in fields)


def _flat(sample: Sample) -> Iterator[Any]:
    """Its tensors, whatever it has become."""
    if isinstance(sample, (dict, tuple)):
        for part in sample.values() if isinstance(sample, dict) else sample:
            yield from _flat(part)
    else:
        yield sample


def transformed(transform: Transform, sample: Any, row: Any) -> Any:
    """`transform(sample)`; a failure says which row it was, and keeps its cause.

    Raises:
        SampleError: The transform raised.
    """
    try:
        return transform(sample)
    except Exception as error:
        raise SampleError(f"the transform raised {type(error).__name__}: {error}", row=int(row)) from error


def _plain(sample: Any) -> Any:
    """The same sample without its mark."""
    if isinstance(sample, _TensorSample):
        return sample.as_subclass(Tensor)
    return tuple(sample) if isinstance(sample, _TupleSample) else dict(sample)


def _collate_marked(batch: Any, *, collate_fn_map: dict[Any, Any] | None = None) -> Batch:
    if isinstance(batch, Samples):
        return batch.batch()
    return torch_collate.collate([_plain(sample) for sample in batch], collate_fn_map=collate_fn_map)


for _kind in (_TensorSample, _TupleSample, _DictSample):
    torch_collate.default_collate_fn_map.setdefault(_kind, _collate_marked)


class Collate:
    """Assembles batches; for the `collate_fn` of a DataLoader.

    Samples of a Penstock dataset are assembled by the core, all fields at once. Anything else goes to
    torch's `default_collate`. Fixed fields are stacked: shape (batch, *row_shape), the field's dtype.

    Args:
        pin_memory: Assemble in pinned memory when there is an accelerator. Not in worker processes,
            which cannot pin. Default: False.
    """

    def __init__(self, *, pin_memory: bool = False) -> None:
        self.pin_memory = pin_memory

    def __call__(self, samples: Iterable[Sample]) -> Batch:
        """Assemble the batch of these samples."""
        if isinstance(samples, Samples):
            return samples.batch(pin_memory=self.pin_memory and get_worker_info() is None)
        return default_collate(list(samples))

    def __repr__(self) -> str:
        return f"Collate(pin_memory={self.pin_memory})"


collate = Collate()
"""`Collate()` with its defaults."""
