"""Images that Python transforms, decoded by the core's threads ahead of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import get_worker_info

from penstock import _core
from penstock.config import get_num_threads
from penstock.errors import FormatError, ShardError
from penstock.layout import Layout
from penstock.table import Structure, Table, Underway

__all__ = ["NumberedImages"]

_LIST = Layout(layout="list")
_AT_LEAST = 4  # images that are decoded together: the memory of twice as many is in use


class NumberedImages(Table):
    """A table whose first field is the number of an image; single rows come with its pixels.

    Not in worker processes, which have one thread each: there Pillow takes less time.

    Args:
        core: The numbers, and other fields.
        structure: Of its samples.
        images: What the core decodes, row by number: one field, images of any size, uint8.
    """

    def __init__(self, core: _core.Table, structure: Structure, images: _core.Source) -> None:
        super().__init__(core, structure)
        self._images = Table(_core.Table([images]), Structure("tensor", ("image",)))

    def rows(self, indices: Any) -> Sequence[Sequence[Any]]:
        """For each field its rows, one by one; the first are (number, pixels), as `_Decoded` has them."""
        if get_worker_info() is not None:
            return super().rows(indices)
        numbers, *others = super().rows(indices)
        return [_Decoded(self._images, [int(number) for number in numbers]), *others]


class _Decoded(Sequence["tuple[int, Tensor | None]"]):
    """Number and pixels of images, in parts, the next of which is decoded while one is looked at.

    No pixels are given for a part of which the core cannot decode all.
    """

    def __init__(self, images: Table, numbers: list[int]) -> None:
        self._images = images
        self._numbers = numbers
        self._length = max(_AT_LEAST, get_num_threads())
        self._part = -1
        self._pixels: list[Tensor | None] = []
        self._ahead: tuple[int, Underway] | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, i: Any) -> Any:
        part, place = divmod(i, self._length)
        if part != self._part:
            self._pixels, self._part = self._decoded(part), part
            if (part + 1) * self._length < len(self):
                self._ahead = part + 1, self._images.begin(self._numbers_of(part + 1), layout=_LIST)
        return self._numbers[i], self._pixels[place]

    def _decoded(self, part: int) -> list[Tensor | None]:
        ahead, self._ahead = self._ahead, None
        numbers = self._numbers_of(part)
        try:
            if ahead is not None and ahead[0] == part:
                return list(ahead[1].batch())
            return list(self._images.batch(numbers, layout=_LIST))
        except (FormatError, ShardError):
            return [None] * len(numbers)

    def _numbers_of(self, part: int) -> list[int]:
        return self._numbers[part * self._length : (part + 1) * self._length]
