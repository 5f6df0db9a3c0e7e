"""A core table as torch sees it: fields put together as samples and batches."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import get_worker_info
from torch.utils.dlpack import to_dlpack

from penstock import _core
from penstock.device import empty, has_accelerator, pin
from penstock.errors import SchemaError
from penstock.layout import PADDED, Layout, Parts, shape_of_image

__all__ = [
    "Batch",
    "RaggedBatch",
    "Sample",
    "Structure",
    "Table",
    "Underway",
    "column_in_memory",
    "field_shape",
    "plain_indices",
    "require_alike",
    "torch_dtype",
]

Sample: TypeAlias = Any
"""A tensor, a tuple of tensors or a dict of tensors; with a transform, whatever it returns."""

Batch: TypeAlias = Any
"""What torch's `default_collate` makes of samples: a tensor, a list of tensors or a dict of tensors."""


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

    def pack_parts(self, parts: Sequence[Parts]) -> Batch:
        """The same where a field may be several things, which then stand beside one another."""
        if self.kind == "dict":
            pairs = zip(self.names, parts, strict=True)
            batch = {name + suffix: part for name, field in pairs for suffix, part in field.items()}
            if len(batch) < sum(map(len, parts)):
                raise SchemaError("two fields of the batch have one name", actual=repr(list(self.names)))
            return batch
        if self.first is not None:
            return [self.first.pack_parts(parts[:-1]), *parts[-1].values()]
        flat = [part for field in parts for part in field.values()]
        return flat[0] if self.kind == "tensor" and len(flat) == 1 else flat

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


def field_shape(field: _core.Field) -> tuple[int, ...]:
    """Of one row, -1 where rows differ."""
    is_run = field.is_ragged and not field.is_image
    return (-1, *field.row_shape) if is_run else field.row_shape


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


def _is_in_worker() -> bool:
    """Whether this is a worker process, where one thread is enough unless the user says otherwise."""
    if get_worker_info() is None:
        return False
    _core.set_default_num_threads(1)
    return True


_SPLIT = Layout(layout="list")


class Table:
    """A core table and the structure of its samples: all that is needed to assemble batches.

    Thread-safe.
    """

    def __init__(self, core: _core.Table, structure: Structure) -> None:
        self.core = core
        self.structure = structure
        self.fields = core.fields
        self.is_ragged = core.is_ragged
        self.is_random = core.is_random
        self._is_dlpack = [field.is_dlpack for field in self.fields]
        self._arrangement: _Arrangement | None = None  # the latest that was asked for
        self._split: _Arrangement | None = None  # for single rows
        self._dtypes = [torch_dtype(field) for field in self.fields]
        self._row_shapes = [field.row_shape for field in self.fields]
        self.row_bytes = sum(field.row_bytes for field in self.fields)

    def __reduce__(self) -> tuple[Any, ...]:
        return Table, (self.core, self.structure)

    def in_epoch(self, key: int) -> Table:
        """The same table with what is random drawn by this key, of 64 bits."""
        other = copy.copy(self)
        other.core = self.core.in_epoch(key)
        return other

    def rows(self, indices: Any) -> Sequence[Sequence[Tensor]]:
        """For each field its rows, one by one."""
        if not self.is_ragged:
            return [tensor.unbind() for tensor in self.gather(indices)]
        self._split = self._split or _Arrangement(self, _SPLIT)
        ragged = RaggedBatch(self, indices, self._split)
        return [field[""] for field in ragged.parts_of(ragged.gather(indices))]

    def batch(self, indices: Any, *, layout: Layout = PADDED, pin_memory: bool = False) -> Batch:
        """Assemble a batch now; rows of different lengths in this layout."""
        if not self.is_ragged:
            return self.structure.pack_batch(self.gather(indices, pin_memory=pin_memory))
        ragged = self.laid_out(indices, layout)
        batch = ragged.pack_batch(ragged.gather(indices, pin_memory=pin_memory))
        return pin(batch) if pin_memory else batch

    def begin(
        self,
        indices: Any,
        *,
        layout: Layout = PADDED,
        pin_memory: bool = False,
        drop_cache: bool = False,
    ) -> Underway:
        """Have a batch assembled by the core's threads."""
        if not self.is_ragged:
            return Underway(self, indices, layout, pin_memory, drop_cache)
        return Underway(self.laid_out(indices, layout), indices, layout, pin_memory, drop_cache)

    @property
    def usual_layout(self) -> Layout:
        """What was asked for last: a guess for batches that are begun ahead of time."""
        return PADDED if self._arrangement is None else self._arrangement.layout

    def laid_out(self, indices: Any, layout: Layout) -> RaggedBatch:
        """A batch of a table with rows of different lengths."""
        arrangement = self._arrangement
        if arrangement is None or (arrangement.layout is not layout and arrangement.layout != layout):
            arrangement = self._arrangement = _Arrangement(self, layout)
        _is_in_worker()  # headers may be read
        return RaggedBatch(self, indices, arrangement)

    def pack_batch(self, tensors: Sequence[Tensor]) -> Batch:
        """Tensors of a batch put together as a user expects them."""
        return self.structure.pack_batch(tensors)

    def row(self, tensors: Sequence[Tensor], i: int) -> list[Tensor]:
        """The fields of one row of a batch."""
        return [tensor[i] for tensor in tensors]

    def bytes_of(self, count: int) -> int:
        """What a batch of so many rows takes."""
        return count * self.row_bytes

    def gather(self, indices: Any, *, pin_memory: bool = False) -> list[Tensor]:
        """One new tensor per field, shape (len(indices), *row_shape)."""
        if pin_memory:
            return self.gather_into(indices, self._pinned(len(indices)))
        if _is_in_worker():
            return self.gather_into(
                indices, [self._shared(i, len(indices)) for i in range(len(self._dtypes))]
            )
        return self._from_capsules(self.core.gather(indices), len(indices))

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
        if self._is_dlpack[i]:
            return tensor
        return tensor.view(self._dtypes[i]).view(self._shape(i, count))

    def _to_capsules(self, outs: list[Tensor]) -> list[Any]:
        return [self._to_capsule(i, out) for i, out in enumerate(outs)]

    def _to_capsule(self, i: int, out: Tensor) -> Any:
        flat = out.detach() if out.requires_grad else out
        if not self._is_dlpack[i]:
            flat = flat.view(-1).view(torch.uint8)
        return to_dlpack(flat)

    def _shape(self, i: int, count: int) -> tuple[int, ...]:
        return (count, *self._row_shapes[i])

    def _pinned(self, count: int) -> list[Tensor]:
        pin = has_accelerator()
        return [empty(self._shape(i, count), dtype, pin_memory=pin) for i, dtype in enumerate(self._dtypes)]

    def _shared(self, i: int, count: int) -> Tensor:
        """Shared memory, as torch's own collate allocates it in a worker: one copy less on the way out."""
        shape, dtype = self._shape(i, count), self._dtypes[i]
        storage = torch.UntypedStorage._new_shared(math.prod(shape) * dtype.itemsize)
        return torch.empty(0, dtype=dtype).set_(storage).view(shape)

    def _require_fits(self, i: int, out: Any, count: int) -> None:
        if not isinstance(out, Tensor):
            found = type(out).__name__
        elif not out.is_cpu:
            found = f"one on {out.device}"
        elif out.layout != torch.strided or not out.is_contiguous():
            found = "one that is not contiguous"
        elif out.dtype != self._dtypes[i] or out.shape != self._shape(i, count):
            found = f"{out.dtype} of shape {tuple(out.shape)}"
        else:
            return
        needed = f"a contiguous {self._dtypes[i]} tensor of shape {self._shape(i, count)} on the CPU"
        raise SchemaError("out= does not fit", field=self.fields[i].name, expected=needed, actual=found)


class _Arrangement:
    """What the batches of a table with rows of different lengths have in common, in one layout."""

    def __init__(self, table: Table, layout: Layout) -> None:
        self.layout = layout
        self.core = layout.as_core()
        self.ragged = [field.is_ragged for field in table.fields]
        self.images = {i: field.row_shape for i, field in enumerate(table.fields) if field.is_image}
        for i in self.images:
            layout.require_for_images(table.fields[i].name)
        self.paddings = [
            layout.padding(dtype, field.name) if field.is_ragged else b""
            for field, dtype in zip(table.fields, table._dtypes, strict=True)
        ]
        self.dtypes = [*table._dtypes, *(torch.int64 for is_ragged in self.ragged if is_ragged)]
        self.is_dlpack = [*table._is_dlpack, *(True for is_ragged in self.ragged if is_ragged)]


class RaggedBatch(Table):
    """One batch of a table with rows of different lengths: its own fields, and behind them their lengths."""

    def __init__(self, table: Table, indices: Any, arrangement: _Arrangement) -> None:
        self.core = table.core.in_batch(indices, arrangement.core, arrangement.paddings)
        self.structure = table.structure
        self._arranged = arrangement
        self._dtypes = arrangement.dtypes
        self._is_dlpack = arrangement.is_dlpack

    @property
    def fields(self) -> list[_core.Field]:  # type: ignore[override]
        """As they are in this batch."""
        return self.core.fields

    def parts_of(self, tensors: Sequence[Tensor]) -> list[Parts]:
        """What each field is in the batch."""
        ragged, layout = self._arranged.ragged, self._arranged.layout
        lengths = iter(tensors[len(ragged) :])
        return [
            (
                {"": tensor}
                if not is_ragged
                else self._image_parts(i, tensor, next(lengths))
                if i in self._arranged.images
                else layout.parts(tensor, next(lengths))
            )
            for i, (tensor, is_ragged) in enumerate(zip(tensors, ragged, strict=False))
        ]

    def _image_parts(self, i: int, values: Tensor, sizes: Tensor) -> Parts:
        first = self.core.places(i, len(sizes)) // values.itemsize
        return self._arranged.layout.image_parts(values, sizes, first.tolist(), self._arranged.images[i])

    def pack_batch(self, tensors: Sequence[Tensor]) -> Batch:
        """See `Table`."""
        return self.structure.pack_parts(self.parts_of(tensors))

    def row(self, tensors: Sequence[Tensor], i: int) -> list[Tensor]:
        """See `Table`; of a batch that is padded at the end of its rows."""
        lengths = iter(tensors[len(self._arranged.ragged) :])
        rows = []
        for number, (tensor, is_ragged) in enumerate(zip(tensors, self._arranged.ragged, strict=False)):
            row = tensor[i]
            if number in self._arranged.images:
                shape = shape_of_image(self._arranged.images[number], next(lengths)[i].tolist())
                row = row[tuple(map(slice, shape))]
            elif is_ragged:
                row = row[: next(lengths)[i]]
            rows.append(row)
        return rows

    def bytes_of(self, count: int) -> int:
        """See `Table`."""
        return sum(math.prod(self._shape(i, count)) * dtype.itemsize for i, dtype in enumerate(self._dtypes))

    def _shape(self, i: int, count: int) -> tuple[int, ...]:
        return self.core.batch_shape(i, count)


class Underway:
    """A batch that the core's threads assemble. Dropping it calls it off.

    Small ones are left for whoever asks: waking a thread would cost more.

    Attributes:
        table: That of the batch.
        layout: Of rows of different lengths.
        bytes: Of the batch.
    """

    WORTH_A_THREAD = 1 << 16  # bytes, or other work that takes as long

    def __init__(
        self, table: Table, indices: Any, layout: Layout, pin_memory: bool, drop_cache: bool
    ) -> None:
        self.table = table
        self._count = len(indices)
        self.layout = layout
        self.bytes = table.bytes_of(self._count)
        self._pinned: list[Tensor] | None = None
        if pin_memory:
            self._pinned = table._pinned(self._count)
            self._core = _core.Pending(table.core, indices, table._to_capsules(self._pinned))
        else:
            self._core = _core.Pending(table.core, indices)
        if drop_cache:
            self._core.drop_cache()
        if self._count * table.core.row_work >= self.WORTH_A_THREAD:
            self._core.submit()

    def times(self) -> tuple[int, int]:
        """When its assembly began and ended, in ns as of `time.perf_counter_ns`, once it is there."""
        return self._core.times()

    def tensors(self) -> list[Tensor]:
        """What the core has assembled, once it is there; to be asked for once.

        Raises:
            ShardError: A file can no longer be read.
        """
        if self._pinned is not None:
            self._core.wait()
            return self._pinned
        return self.table._from_capsules(self._core.take(), self._count)

    def batch(self) -> Batch:
        """The same, put together."""
        batch = self.table.pack_batch(self.tensors())
        return batch if self._pinned is None else pin(batch)


def column_in_memory(name: str, tensor: Tensor) -> _core.Column:
    """The rows of a tensor, which must live as long; nothing is copied."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    plain = tensor.detach().resolve_conj().resolve_neg()
    try:
        capsule = torch.utils.dlpack.to_dlpack(plain)
    except (BufferError, RuntimeError):  # a dtype that DLPack has no name for: its bits will do
        bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[plain.element_size()]
        capsule = torch.utils.dlpack.to_dlpack(plain.view(bits))
    return _core.Column.in_memory(name, dtype, capsule)


def require_alike(name: str, tensors: Sequence[Tensor]) -> None:
    """Sequences that differ in nothing but their lengths.

    Raises:
        SchemaError: They do.
    """
    first = tensors[0]
    for number, tensor in enumerate(tensors):
        if tensor.ndim == 0 or tensor.dtype != first.dtype or tensor.shape[1:] != first.shape[1:]:
            raise SchemaError(
                "sequences must agree in all but their lengths",
                field=name,
                expected=f"{first.dtype} of shape {('any', *first.shape[1:])} as the first",
                actual=f"{tensor.dtype} of shape {tuple(tensor.shape)}, number {number}",
            )
