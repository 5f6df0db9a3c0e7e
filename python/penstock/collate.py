"""How rows become batches: the lazy samples that a dataset gives, and what assembles them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, cast, overload

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info
from torch.utils.data._utils import collate as torch_collate

from penstock import _core
from penstock.device import pin
from penstock.errors import PenstockError, SampleError, SchemaError
from penstock.layout import PADDED, Layout, Parts, shape_of_image
from penstock.table import (
    Batch,
    Sample,
    Structure,
    Table,
    Underway,
    column_in_memory,
    field_shape,
    require_alike,
)

__all__ = ["Collate", "Samples", "collate"]

Transform: TypeAlias = Callable[[Any], Any]
Known: TypeAlias = "Mapping[str, tuple[int, ...]]"
"""Shapes of fields, -1 where samples differ."""


class _TensorSample(Tensor):
    """A tensor that says where it comes from, so that the default collate finds the native path."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


class _TupleSample(tuple[Any, ...]):
    """Likewise a tuple."""


class _DictSample(dict[str, Tensor]):
    """Likewise a dict."""


class Samples(MutableSequence[Any]):
    """The samples of one batch, before any byte of them has been read.

    Ordinary samples for whoever looks at them one by one, to be sorted, replaced and left out as in a list;
    `collate`, and torch's default collate, ask for the whole batch at once instead and make no single samples
    (but for the first, which torch looks at to know what they are).

    Looking at one sample assembles the whole batch; the sample is a copy of its rows. What is done to a
    sample, or to their sequence, shows in the batch that is made of it.
    """

    def __init__(self, table: Table, rows: Any, underway: Underway | None = None) -> None:
        self._table = table
        self._rows = rows
        self._underway = underway
        self._assembler = table  # what the tensors came out of
        self._tensors: list[Tensor] | None = None
        self._given: dict[int, tuple[Sample, list[Tensor]]] = {}
        self._list: list[Sample] | None = None  # in its place, once the sequence itself was changed

    def __len__(self) -> int:
        return len(self._rows if self._list is None else self._list)

    def __repr__(self) -> str:
        return f"Samples({len(self)} of {', '.join(self._table.structure.names)})"

    @overload
    def __getitem__(self, i: int) -> Sample: ...
    @overload
    def __getitem__(self, i: slice) -> list[Sample]: ...
    def __getitem__(self, i: int | slice) -> Sample | list[Sample]:
        if self._list is not None:
            return self._list[i]
        if isinstance(i, slice):
            return [self[k] for k in range(len(self))[i]]
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of a batch of {len(self)}")
        i %= len(self)
        if i not in self._given:
            with torch.inference_mode(False):  # what is done to a sample is counted in its version
                fields = [row.clone() for row in self._row(i)]
                self._given[i] = _marked(self._table.structure, fields), fields
        return self._given[i][0]

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def __setitem__(self, i: Any, value: Any) -> None:
        self._as_list()[i] = value

    def __delitem__(self, i: Any) -> None:
        del self._as_list()[i]

    def __add__(self, other: Iterable[Sample]) -> list[Sample]:
        return [*self, *other]

    def __radd__(self, other: Iterable[Sample]) -> list[Sample]:
        return [*other, *self]

    def insert(self, index: int, value: Sample) -> None:
        """As a list's."""
        self._as_list().insert(index, value)

    def sort(self, *, key: Callable[[Sample], Any] | None = None, reverse: bool = False) -> None:
        """As a list's."""
        self._as_list().sort(key=cast(Any, key), reverse=reverse)

    def _as_list(self) -> list[Sample]:
        if self._list is None:
            self._list = list(self)
        return self._list

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def batch(self, *, layout: Layout = PADDED, pin_memory: bool = False) -> Batch:
        """Assemble the batch. Each call gives tensors of its own.

        Args:
            layout: Of rows of different lengths. Default: `Layout()`.
            pin_memory: Assemble in pinned memory when there is an accelerator. Default: False.

        Returns:
            What torch's `default_collate` would make of these samples, or a `Collate` where rows are of
            different lengths. Yours to keep.

        Raises:
            IndexError: A row number is outside the dataset.
            ShardError: A file can no longer be read.
        """
        batch = self._begun(layout)
        if batch is None:
            return self._table.batch(self._rows, layout=layout, pin_memory=pin_memory)
        return pin(batch) if pin_memory else batch

    def _begun(self, layout: Layout) -> Batch | None:
        """What was assembled before it was asked for, if that is of use."""
        if self._list is not None or any(_was_changed(*given) for given in self._given.values()):
            return self._of_changed(layout)
        tensors, self._tensors = self._tensors, None
        underway, self._underway = self._underway, None
        if tensors is not None and self._fits(layout, PADDED):
            return self._assembler.pack_batch(tensors)
        if underway is not None and self._fits(layout, underway.layout):
            return underway.batch()
        return None

    def _fits(self, wanted: Layout, found: Layout) -> bool:
        return not self._table.is_ragged or wanted == found

    def _of_changed(self, layout: Layout) -> Batch:
        samples = TransformedSamples((_plain(sample) for sample in self), self._table)
        return collate_samples(samples, None, layout, samples.known)

    def _row(self, i: int) -> list[Tensor]:
        """The fields of one sample; of different lengths, out of a padded batch."""
        if self._tensors is None:
            underway, self._underway = self._underway, None
            if underway is not None and self._fits(PADDED, underway.layout):
                self._assembler, self._tensors = underway.table, underway.tensors()
            else:
                if self._table.is_ragged:
                    self._assembler = self._table.laid_out(self._rows, PADDED)
                self._tensors = self._assembler.gather(self._rows)
        return self._assembler.row(self._tensors, i)


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
        FormatError, ShardError: It asked for a file that is broken, or cannot be read.
        SampleError: The transform raised.
    """
    try:
        return transform(sample)
    except Exception as error:
        if isinstance(error, PenstockError) and error.path is not None:
            error.row = int(row) if error.row is None else error.row
            raise
        raise SampleError(f"the transform raised {type(error).__name__}: {error}", row=int(row)) from error


def _marked(structure: Structure, fields: Sequence[Tensor]) -> Any:
    """A sample that the default collate shall recognise."""
    if structure.kind == "tensor":
        return fields[0].as_subclass(_TensorSample)
    packed = structure.pack(fields)
    return _DictSample(packed) if structure.kind == "dict" else _TupleSample(packed)


def _plain(sample: Any) -> Any:
    """The same sample without its mark."""
    if isinstance(sample, _TensorSample):
        return sample.as_subclass(Tensor)
    if isinstance(sample, _DictSample):
        return dict(sample)
    return tuple(sample) if isinstance(sample, _TupleSample) else sample


def _collate_marked(batch: Any, *, collate_fn_map: dict[Any, Any] | None = None) -> Batch:
    if isinstance(batch, Samples):
        return batch.batch()
    return torch_collate.collate([_plain(sample) for sample in batch], collate_fn_map=collate_fn_map)


for _kind in (_TensorSample, _TupleSample, _DictSample):
    torch_collate.default_collate_fn_map.setdefault(_kind, _collate_marked)


class TransformedSamples(list[Any]):
    """Samples that a transform has made.

    Attributes:
        known: Names, or positions, of the fields that were of different lengths before it, and the shape of a
            sample, -1 where they differ.
    """

    def __init__(self, samples: Iterable[Sample], table: Table) -> None:
        super().__init__(samples)
        structure = table.structure.first or table.structure
        self.known = {
            name if structure.kind == "dict" else str(i): field_shape(field)
            for i, (name, field) in enumerate(zip(table.structure.names, table.fields, strict=True))
            if field.is_ragged
        }


class Collate:
    """Assembles batches; for the `collate_fn` of a DataLoader.

    Samples of a Penstock dataset are assembled by the core, all fields at once. Fixed fields are stacked:
    shape (batch, *row_shape), the field's dtype. Fields whose rows differ in their first dimension are laid
    out in one pass from the files:

    - "pad": one tensor, shape (batch, longest, *value_shape), and behind it the lengths, shape (batch,),
      int64.
    - "pack": values end to end, shape (sum of lengths, *value_shape), and behind them "cu_seqlens", shape
      (batch + 1,), int32: 0 and the sums of the lengths, as flash-attention takes them.
    - "nested": a `torch.nested` tensor of layout `torch.jagged`.
    - "list": a list of tensors, shape (length, *value_shape) each.

    Images of different sizes, of a Penstock dataset, differ in height and width: "pad" gives (batch,
    channels, highest, widest), or channels last, with the images in the upper left corner (the lower right
    one with `padding_side="left"`), their sizes, shape (batch, 2), int64, height and width, in the place of
    lengths, and as mask (batch, highest, widest); "list" gives one tensor each. They are neither cut nor
    packed nor nested.

    What belongs to a field stands behind it in a list, and in a dict under its name and "_lengths", "_mask"
    or "_cu_seqlens".

    Samples of any other dataset (tensors, or tuples or dicts of them) are put together by torch's
    `default_collate`, except for tensors of different lengths, which are laid out likewise; as torch's
    `pad_sequence` does it, but with lengths. Gradients are not followed.

    Args:
        padding_value: What a padded row is filled with. Default: 0.
        batch_first: False: padded tensors are (longest, batch, *value_shape). Default: True.
        lengths: Whether lengths stand behind a padded tensor. Default: True.
        mask: Whether a mask does, shape (batch, longest), bool: True where there is a value. Default: False.
        pad_to_multiple: Round the longest up to a multiple of this; height and width of images. Default: no.
        max_length: Cut rows that are longer. Default: no.
        truncation: Which end of such a row is cut off: "right" or "left". Default: "right".
        padding_side: Where the padding is: "right" or "left". Default: "right".
        layout: "pad", "pack", "nested" or "list". Default: "pad".
        ragged: Which fields of other datasets' samples differ in length: True for every tensor of one
            dimension or more, or their names or positions. Default: those that differ in the batch at hand; a
            batch whose sequences happen to be of one length is then stacked, without lengths.
        pin_memory: Assemble in pinned memory when there is an accelerator. Not in worker processes,
            which cannot pin. Default: False.

    Raises:
        ArgumentError: An argument has a value that cannot be.
    """

    def __init__(
        self,
        padding_value: float = 0,
        batch_first: bool = True,
        lengths: bool = True,
        pad_to_multiple: int | None = None,
        max_length: int | None = None,
        truncation: Literal["right", "left"] = "right",
        padding_side: Literal["right", "left"] = "right",
        layout: Literal["pad", "pack", "nested", "list"] = "pad",
        *,
        mask: bool = False,
        ragged: bool | str | int | Sequence[str | int] | None = None,
        pin_memory: bool = False,
    ) -> None:
        self.layout = Layout(
            padding_value,
            batch_first,
            lengths,
            mask,
            pad_to_multiple,
            max_length,
            truncation,
            padding_side,
            layout,
        )
        self.ragged = (ragged,) if isinstance(ragged, (str, int)) and not isinstance(ragged, bool) else ragged
        self.pin_memory = pin_memory

    def __call__(self, samples: Iterable[Sample]) -> Batch:
        """Assemble the batch of these samples.

        Raises:
            SchemaError: Sequences differ in more than their lengths.
        """
        pin_memory = self.pin_memory and get_worker_info() is None
        if isinstance(samples, Samples):
            return samples.batch(layout=self.layout, pin_memory=pin_memory)
        known = samples.known if isinstance(samples, TransformedSamples) else {}
        batch = collate_samples(list(samples), self.ragged, self.layout, known)
        return pin(batch) if pin_memory else batch

    def __repr__(self) -> str:
        return f"Collate({self.layout}, ragged={self.ragged}, pin_memory={self.pin_memory})"


collate = Collate()
"""`Collate()` with its defaults."""


# --- samples of other datasets ---------------------------------------------------------------------------


def collate_samples(
    samples: list[Sample],
    ragged: bool | Sequence[str | int] | None,
    layout: Layout,
    known: Known = MappingProxyType({}),
) -> Batch:
    """Samples of any dataset as a batch: see `Collate`.

    Args:
        samples: Of one batch.
        ragged: As in `Collate`.
        layout: Of what is ragged.
        known: Fields that differ elsewhere, and need not here, if they have as many dimensions: their shape.

    Raises:
        SchemaError: `ragged` names no field; sequences differ in more than their lengths.
    """
    batch = _laid_out_samples(samples, ragged, layout, known)
    return default_collate(samples) if batch is None else batch


def _laid_out_samples(
    samples: list[Sample],
    ragged: bool | Sequence[str | int] | None,
    layout: Layout,
    known: Known,
) -> Batch | None:
    """The batch; nothing where torch's default will do."""
    structure, fields = _taken_apart(samples)
    if isinstance(ragged, Sequence):
        _require_fields(structure, ragged)
    parts = [
        _parts(name, field, ragged, layout, known)
        for name, field in zip(structure.names, fields, strict=True)
    ]
    if all(part is None for part in parts):
        return None
    filled = zip(parts, fields, strict=True)
    return structure.pack_parts(
        [{"": default_collate(field)} if part is None else part for part, field in filled]
    )


def _taken_apart(samples: list[Sample]) -> tuple[Structure, list[list[Any]]]:
    """How the samples are put together, and each field of all samples."""
    first = samples[0] if samples else None
    if isinstance(first, Mapping):
        names = tuple(first)
        return Structure("dict", names), [[sample[name] for sample in samples] for name in names]
    if isinstance(first, (tuple, list)) and all(len(sample) == len(first) for sample in samples):
        positions = tuple(str(i) for i in range(len(first)))
        return Structure("tuple", positions), [list(field) for field in zip(*samples, strict=True)]
    return Structure("tensor", ("0",)), [samples]


def _require_fields(structure: Structure, ragged: Sequence[str | int]) -> None:
    for name in ragged:
        if str(name) not in map(str, structure.names):
            raise SchemaError(
                "ragged= names no field of the samples",
                expected=f"some of {list(structure.names)}",
                actual=repr(name),
            )


def _parts(
    name: Any,
    field: list[Any],
    ragged: bool | Sequence[str | int] | None,
    layout: Layout,
    known: Known,
) -> Parts | None:
    """What a field is in the batch; nothing where torch's default will do."""
    if ragged is None and isinstance(field[0], (Mapping, tuple)):
        batch = _laid_out_samples(field, None, layout, known)
        return None if batch is None else {"": batch}
    if isinstance(ragged, Sequence):
        return _laid_out(name, field, layout) if str(name) in map(str, ragged) else None
    if not all(isinstance(each, (Tensor, np.ndarray)) and each.ndim > 0 for each in field):
        return None
    shape = known.get(str(name), ())
    is_known = len(shape) == field[0].ndim
    if is_known and shape.count(-1) == 2:
        return _padded_images(name, field, layout, shape)
    if ragged or is_known or (ragged is None and len({len(each) for each in field}) > 1):
        return _laid_out(name, field, layout)
    return None


def _laid_out(name: Any, field: list[Any], layout: Layout) -> Parts:
    """Sequences of different lengths, through the core."""
    if (arranged := _arranged(name, field, layout)) is not None:
        return arranged
    tensors = [each if isinstance(each, Tensor) else torch.from_numpy(np.asarray(each)) for each in field]
    require_alike(str(name), tensors)
    values = column_in_memory(str(name), torch.cat(tensors))
    lengths = np.array([len(tensor) for tensor in tensors], np.int64)
    source = _core.RaggedSource.from_lengths(values, lengths)
    table = Table(_core.Table([source]), Structure("dict", ("",)))
    parts: Parts = table.batch(np.arange(len(tensors)), layout=layout)
    return parts


def _arranged(name: Any, field: list[Any], layout: Layout) -> Parts | None:
    """The same in one pass, where the sequences lie in memory as they are; not in shared memory."""
    first = field[0]
    if get_worker_info() is not None or not isinstance(first, (Tensor, np.ndarray)):
        return None
    dtype = first.dtype if isinstance(first, Tensor) else torch.from_numpy(np.empty(0, first.dtype)).dtype
    arranged = _core.arrange_rows(tuple(field), layout.as_core(), layout.padding(dtype, str(name)))
    if arranged is None:
        return None
    values, lengths = arranged
    return layout.parts(torch.from_dlpack(values).view(dtype), torch.from_numpy(lengths))


def _padded_images(name: Any, field: list[Tensor], layout: Layout, shape: Sequence[int]) -> Parts:
    """Images of different sizes that were changed one by one."""
    layout.require_for_images(str(name))
    if layout.layout == "list":
        return {"": list(field)}
    free = [i for i, side in enumerate(shape) if side == -1]
    sizes = torch.tensor([[image.shape[i] for i in free] for image in field], device="cpu")
    multiple = layout.pad_to_multiple or 1
    room = [-(-side // multiple) * multiple for side in sizes.amax(0).tolist()]
    values = field[0].new_full((len(field), *shape_of_image(shape, room)), layout.padding_value)
    for place, image, size in zip(values, field, sizes.tolist(), strict=True):
        for i, side, most in zip(free, size, room, strict=True):
            place = place.narrow(i, most - side if layout.padding_side == "left" else 0, side)
        place.copy_(image)
    return layout.image_parts(values, sizes, (), shape)
