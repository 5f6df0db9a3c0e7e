"""How rows of different lengths are put into one batch."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from penstock.errors import ArgumentError, SchemaError, require_choice

__all__ = ["PADDED", "Layout", "Parts", "shape_of_image"]

_LARGEST = 1 << 62

Parts: TypeAlias = "dict[str, Any]"
"""What a field is in a batch: by what comes behind its name, the field itself first ("")."""


@dataclass(frozen=True)
class Layout:
    """How rows of different lengths are put into one batch: see `Collate`, whose arguments these are."""

    padding_value: float = 0
    batch_first: bool = True
    lengths: bool = True
    mask: bool = False
    pad_to_multiple: int | None = None
    max_length: int | None = None
    truncation: Literal["right", "left"] = "right"
    padding_side: Literal["right", "left"] = "right"
    layout: Literal["pad", "pack", "nested", "list"] = "pad"

    def __post_init__(self) -> None:
        require_choice("layout", self.layout, ("pad", "pack", "nested", "list"))
        require_choice("truncation", self.truncation, ("right", "left"))
        require_choice("padding_side", self.padding_side, ("right", "left"))
        for name, least in (("pad_to_multiple", 1), ("max_length", 0)):
            object.__setattr__(self, name, _at_least(name, getattr(self, name), least))

    def as_core(self) -> tuple[bool, bool, bool, bool, int | None, int]:
        """For `_core.Table.in_batch`."""
        return (
            self.layout != "pad",
            self.batch_first,
            self.padding_side == "left",
            self.truncation == "left",
            self.max_length,
            self.pad_to_multiple or 1,
        )

    def padding(self, dtype: torch.dtype, field: str) -> bytes:
        """One element of the padding; zeros where nothing is padded.

        Raises:
            ArgumentError: The dtype has no such value.
        """
        if self.layout != "pad":
            return bytes(dtype.itemsize)
        try:
            element = torch.tensor([self.padding_value], dtype=dtype, device="cpu")
            fits = _is_about(self.padding_value, element)
        except (RuntimeError, TypeError, ValueError, OverflowError):
            fits = False
        if not fits:
            raise ArgumentError(
                "padding_value= is no value of the field's dtype",
                field=field,
                expected=str(dtype),
                actual=repr(self.padding_value),
            )
        return element.view(torch.uint8).numpy().tobytes()

    def require_for_images(self, field: str) -> None:
        """Images of different sizes come padded or as a list.

        Raises:
            ArgumentError: The layout is another one, or says what images have no meaning for.
        """
        if self.layout in ("pad", "list") and self.batch_first and self.max_length is None:
            return
        raise ArgumentError(
            "images of different sizes cannot be laid out like this",
            field=field,
            expected='layout="pad" or "list", batch_first=True and max_length=None',
            actual=f"layout={self.layout!r}, batch_first={self.batch_first}, max_length={self.max_length}",
            hint="Resize or crop them to one size, or take them padded.",
        )

    def image_parts(
        self, values: Tensor, sizes: Tensor, first: Sequence[int], row_shape: Sequence[int]
    ) -> Parts:
        """What a field of images of different sizes is in a batch.

        Args:
            values: As the core has laid them out: padded, or each from its place on.
            sizes: Height and width of each, shape (batch, 2), int64.
            first: Places: the element where each begins.
            row_shape: Of an image, with -1 for height and width.
        """
        if self.layout == "list":
            images = []
            for begin, size in zip(first, sizes.tolist(), strict=True):
                shape = shape_of_image(row_shape, size)
                images.append(values[begin : begin + math.prod(shape)].view(shape))
            return {"": images}
        parts: Parts = {"": values}
        if self.lengths:
            parts["_lengths"] = sizes
        if self.mask:
            height, width = (values.shape[1 + i] for i, side in enumerate(row_shape) if side == -1)
            rows, columns = self._inside(height, sizes[:, 0]), self._inside(width, sizes[:, 1])
            parts["_mask"] = rows[:, :, None] & columns[:, None, :]
        return parts

    def parts(self, values: Tensor, lengths: Tensor) -> Parts:
        """What a field is in a batch.

        Args:
            values: As the core has laid them out: padded, or end to end.
            lengths: Shape (batch,), int64.
        """
        if self.layout == "list":
            return {"": list(torch.split(values, lengths.tolist()))}
        if self.layout == "nested":
            return {"": torch.nested.nested_tensor_from_jagged(values, _sums(lengths, torch.int64))}
        if self.layout == "pack":
            return {"": values, "_cu_seqlens": _sums(lengths, torch.int32)}
        parts: Parts = {"": values}
        if self.lengths:
            parts["_lengths"] = lengths
        if self.mask:
            parts["_mask"] = self._mask(values.shape[1 if self.batch_first else 0], lengths)
        return parts

    def _inside(self, width: int, lengths: Tensor) -> Tensor:
        """True where there is a value: shape (batch, width)."""
        positions = torch.arange(width, device="cpu")
        if self.padding_side == "right":
            return positions < lengths[:, None]
        return positions >= width - lengths[:, None]

    def _mask(self, width: int, lengths: Tensor) -> Tensor:
        mask = self._inside(width, lengths)
        return mask if self.batch_first else mask.T.contiguous()


def shape_of_image(row_shape: Sequence[int], size: Sequence[int]) -> list[int]:
    """The shape of an image of that height and width; -1 stands for these in `row_shape`."""
    sides = iter(size)
    return [next(sides) if each == -1 else each for each in row_shape]


def _is_about(value: Any, element: Tensor) -> bool:
    """Whether the element is that value: exactly, or rounded but no larger than the dtype's largest."""
    if not (element.dtype.is_floating_point or element.dtype.is_complex):
        return bool(element.item() == value)
    kept = element.to(torch.complex128 if element.dtype.is_complex else torch.float64)
    wanted = torch.tensor([value], dtype=kept.dtype, device="cpu")
    fits = wanted.isinf() | wanted.isnan() | (wanted.abs() <= torch.finfo(element.dtype).max)
    return bool((fits & (kept.isnan() == wanted.isnan()) & (kept.isinf() == wanted.isinf())).all())


def _sums(lengths: Tensor, dtype: torch.dtype) -> Tensor:
    """0, and the sum of the lengths up to each.

    Raises:
        SchemaError: They do not fit the dtype.
    """
    sums = torch.zeros(len(lengths) + 1, dtype=torch.int64, device="cpu")
    torch.cumsum(lengths, 0, out=sums[1:])
    if sums[-1] > torch.iinfo(dtype).max:
        raise SchemaError(
            "a batch has too many values to be packed", expected=str(dtype), actual=str(sums[-1].item())
        )
    return sums.to(dtype)


def _at_least(name: str, value: Any, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__") or not least <= value < _LARGEST:
        raise ArgumentError(
            f"{name}= is no such number", expected=f"{least} to {_LARGEST - 1}", actual=repr(value)
        )
    return operator.index(value)


PADDED = Layout()
"""What `Collate()` does."""
