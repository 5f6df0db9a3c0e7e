"""What all datasets of images are asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from penstock.datasets.lowering import Decode
from penstock.errors import require_choice
from penstock.samplers.base import at_least

__all__ = ["ImageOptions", "JpegWarnings", "Mode", "OnError", "PixelType"]

Mode: TypeAlias = Literal["RGB", "L", "unchanged"]
PixelType: TypeAlias = Literal["uint8", "uint16"]
OnError: TypeAlias = Literal["raise", "skip", "replace"]
JpegWarnings: TypeAlias = Literal["count", "error", "ignore"]


@dataclass(frozen=True)
class ImageOptions:
    """The arguments that all datasets of images share; they say what each means."""

    mode: Mode
    dtype: PixelType
    apply_exif_orientation: bool
    decode: Decode
    on_error: OnError
    channels_last: bool
    jpeg_warnings: JpegWarnings
    max_pixels: int
    seed: int

    def __post_init__(self) -> None:
        require_choice("mode", self.mode, ("RGB", "L", "unchanged"))
        require_choice("dtype", self.dtype, ("uint8", "uint16"))
        require_choice("decode", self.decode, ("exact", "fast"))
        require_choice("on_error", self.on_error, ("raise", "skip", "replace"))
        require_choice("jpeg_warnings", self.jpeg_warnings, ("count", "error", "ignore"))
        at_least(1, self.max_pixels, "max_pixels")

    @property
    def are_torchvisions(self) -> bool:
        """Whether images are before the transform as torchvision has them."""
        return self.mode == "RGB" and self.dtype == "uint8" and not self.apply_exif_orientation

    @property
    def bits(self) -> int:
        """Of a sample of a channel."""
        return 8 if self.dtype == "uint8" else 16
