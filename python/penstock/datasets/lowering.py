"""From transforms, ours and torchvision's, to what the core does with an image, of a file or in an array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch

from penstock.transforms import border_of, changes_of, numbers_of

__all__ = ["Decode", "Decoded", "Lowered", "NotLowered", "lowered", "lowered_for_rows", "takes_images"]

Decode: TypeAlias = Literal["exact", "fast"]
Step: TypeAlias = tuple[
    str,
    tuple[int, int],
    int,
    tuple[int, int, int, int],
    bool,
    tuple[float, float],
    tuple[float, float],
    float,
    tuple[tuple[float, float], ...],
]
"""As `_core.ImageSteps` takes it."""

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_NO_COLORS = ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (0.0, 0.0))
_FILTERS = {"bilinear": "bilinear", "bicubic": "bicubic", 2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class Decoded:
    """What images are before they are transformed.

    Attributes:
        mode: "RGB", "L" or "unchanged".
        channels: Of all, which only "unchanged" leaves open.
        dtype: torch.uint8 or torch.uint16.
    """

    mode: str = "RGB"
    channels: int = 3
    dtype: torch.dtype = torch.uint8


class NotLowered(Exception):
    """Says which transform the core cannot do, and why."""


@dataclass
class Lowered:
    """What is to be done with every image.

    Attributes:
        steps: From the decoded image to its part of the batch.
        mode: What is decoded: "RGB", "L" or "unchanged".
        channels: Of a sample.
        dtype: Of a sample.
        scale: Whether floats are divided by 255.
        mean: For `std`; empty: no normalisation.
        std: One for each channel.
        filter: Of the resize.
        fill: Of borders.
        has_channels: Whether a sample has a dimension of them.
    """

    steps: list[Step] = field(default_factory=list)
    mode: str = "RGB"
    channels: int = 3
    dtype: torch.dtype = torch.uint8
    scale: bool = True
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    filter: str = "bilinear"
    fill: int = 0
    has_channels: bool = True

    def of_samples(self) -> dict[str, Any]:
        """What a sample becomes, for `_core.ImagePipeline`."""
        return {
            "channels": self.channels,
            "dtype": str(self.dtype).removeprefix("torch."),
            "scale": self.scale,
            "mean": self.mean,
            "std": self.std,
            "filter": self.filter,
        }


def lowered(transform: Any, decode: Decode, images: Decoded = Decoded()) -> Lowered:
    """What the core is to do instead of a transform.

    Raises:
        NotLowered: The core cannot do just that.
    """
    lowering = _Lowering(decode, images)
    for each in _one_by_one(transform):
        lowering.take(each)
    return lowering.done()


def lowered_for_rows(transform: Any, channels: int | None, decode: Decode) -> Lowered:
    """What the core is to do instead of a transform of uint8 tensors.

    Args:
        transform: Of tensors, shape (channels, height, width) or (height, width).
        channels: 1 to 4; None: there is no such dimension.
        decode: "fast": a resize may be done as one of an image.

    Raises:
        NotLowered: The core cannot do just that.
    """
    lowering = _RowLowering(decode, channels)
    for each in _one_by_one(transform):
        lowering.take(each)
    return lowering.done()


def takes_images(transform: Any) -> bool:
    """Whether it begins with a transform of images, ours or torchvision's."""
    first = next(_one_by_one(transform), None)
    return first is not None and _name_of(first) is not None


def _one_by_one(transform: Any) -> Iterator[Any]:
    """Those that a transform is composed of."""
    if isinstance(transform, torch.nn.Sequential):
        parts: Any = transform
    elif _name_of(transform) == "Compose":
        parts = transform.transforms
    else:
        yield transform
        return
    for part in parts:
        yield from _one_by_one(part)


def _name_of(transform: Any) -> str | None:
    """What torchvision calls it; None where it is neither torchvision's nor ours."""
    kind = type(transform)
    is_known = kind.__module__ == "penstock.transforms" or kind.__module__.startswith(
        "torchvision.transforms."
    )
    return kind.__name__ if is_known else None


class _Lowering:
    """The transforms so far.

    `stage` is what they have made of the image: a Pillow "image", a "tensor" of its pixels, a tensor of
    "floats", or floats that are "normalised" or "cast".
    """

    def __init__(self, decode: Decode, images: Decoded) -> None:
        self.result = Lowered(mode=images.mode, channels=images.channels, dtype=images.dtype)
        self.decode = decode
        self.images = images
        self.stage = "image"
        self.fills: set[int] = set()
        self.resizes_whole = True  # whether a resize may still come
        self.moves_pixels = True  # whether anything else but a flip may

    def done(self) -> Lowered:
        if self.stage == "image":
            raise NotLowered("it gives a Pillow image, no tensor: ToTensor() at its end would change that")
        if len(self.fills) > 1:
            raise NotLowered("its borders are of different colors")
        self.result.fill = next(iter(self.fills), 0)
        return self.result

    def take(self, transform: Any) -> None:
        name = _name_of(transform)
        known = None if name is None else _TAKERS.get(name)
        if known is None:
            shown = getattr(transform, "__qualname__", type(transform).__qualname__)
            raise NotLowered(f"{shown} is not one that the core knows")
        try:
            getattr(self, known)(transform)
        except NotLowered as why:
            raise NotLowered(f"{name}: {why}") from None
        except (AttributeError, TypeError, ValueError) as error:  # of a torchvision that has other attributes
            raise NotLowered(f"{name}: {error}") from error

    # --- where pixels come from -------------------------------------------------------------------------

    def resize(self, it: Any) -> None:
        self.before_resize(it)
        size = it.size if isinstance(it.size, int) else list(it.size)
        longest = it.max_size or 0
        if isinstance(size, int) or len(size) == 1:
            shorter = size if isinstance(size, int) else size[0]
            self.add("resize shorter", (shorter, shorter), longest=longest)
        else:
            self.add("resize", (size[1], size[0]))

    def random_resized_crop(self, it: Any) -> None:
        self.before_resize(it)
        height, width = it.size
        (low, high), (narrow, wide) = it.scale, it.ratio
        self.add("random resized crop", (width, height), scale=(low, high), ratio=(narrow, wide))

    def before_resize(self, it: Any) -> None:
        if not self.resizes_whole:
            raise NotLowered("it comes after another resize, a flip or a border (CenterCrop may have one)")
        if self.stage != "image" and not (self.decode == "fast" and self.stage == "tensor"):
            raise NotLowered("torch resizes a tensor otherwise than Pillow an image: put it before ToTensor")
        interpolation = getattr(it.interpolation, "value", it.interpolation)
        if interpolation not in _FILTERS:
            raise NotLowered(f"interpolation {interpolation!r} is neither bilinear nor bicubic")
        if self.stage == "tensor" and getattr(it, "antialias", True) is False:
            raise NotLowered("the core resizes with antialiasing")
        self.result.filter = _FILTERS[interpolation]
        self.resizes_whole = False

    def center_crop(self, it: Any) -> None:
        height, width = _two(it.size)
        self.add("center crop", (width, height))
        self.border(0)

    def random_crop(self, it: Any) -> None:
        height, width = _two(it.size)
        if it.padding is not None:
            border = it.padding
            if type(it).__module__.startswith("torchvision.transforms.v2"):  # left, right, top, bottom
                border = [border[0], border[2], border[1], border[3]]
            self.add("pad", padding=border_of(border))
        if it.padding is not None or it.pad_if_needed:
            self.bordered(it)
        self.add("random crop", (width, height), pads_if_needed=bool(it.pad_if_needed))

    def pad(self, it: Any) -> None:
        self.add("pad", padding=border_of(it.padding))
        self.bordered(it)

    def bordered(self, it: Any) -> None:
        if it.padding_mode != "constant":
            raise NotLowered(f"its border is {it.padding_mode}")
        fill = list(it.fill) if isinstance(it.fill, (list, tuple)) else [it.fill]
        most = 255 if self.images.dtype == torch.uint8 else 0
        if len(set(fill)) != 1 or not isinstance(fill[0], int) or not 0 <= fill[0] <= most:
            raise NotLowered(f"its border of {it.fill} is not of one gray")
        self.border(fill[0])

    def border(self, fill: int) -> None:
        if self.stage in ("normalised", "cast") or (self.stage == "floats" and fill != 0):
            raise NotLowered("its border comes after the pixels have become other numbers")
        self.fills.add(fill)
        self.resizes_whole = False

    def flip_horizontally(self, it: Any) -> None:
        self.add("flip horizontally", probability=float(it.p))
        self.resizes_whole = False

    def flip_vertically(self, it: Any) -> None:
        self.add("flip vertically", probability=float(it.p))
        self.resizes_whole = False

    def color_jitter(self, it: Any, probability: float = 1.0) -> None:
        self.before_colors()
        self.add("jitter colors", probability=probability, colors=changes_of(it))

    def random_grayscale(self, it: Any) -> None:
        self.before_colors()
        if self.result.channels == 3:
            self.add("gray", probability=float(it.p))

    def before_colors(self) -> None:
        if self.stage != "image":
            raise NotLowered("torch changes a tensor's colors otherwise than Pillow: put it before ToTensor")
        self.moves_pixels = False

    def random_apply(self, it: Any) -> None:
        parts = list(it.transforms)
        if len(parts) != 1 or _name_of(parts[0]) != "ColorJitter":
            raise NotLowered("it is of something else than one ColorJitter")
        self.color_jitter(parts[0], float(it.p))

    def grayscale(self, it: Any) -> None:
        if self.stage != "image" or not self.moves_pixels or any("resize" in s[0] for s in self.result.steps):
            raise NotLowered(
                "it comes after a resize or a change of colors, or after the image has become a tensor"
            )
        if self.result.mode == "unchanged":
            raise NotLowered('images are to be "unchanged": mode="L" makes them gray')
        self.result.mode, self.result.channels = "L", it.num_output_channels

    def add(
        self,
        kind: str,
        size: tuple[int, int] = (0, 0),
        *,
        longest: int = 0,
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        pads_if_needed: bool = False,
        scale: tuple[float, float] = (0.0, 1.0),
        ratio: tuple[float, float] = (1.0, 1.0),
        probability: float = 0.0,
        colors: tuple[tuple[float, float], ...] = _NO_COLORS,
    ) -> None:
        if kind in _MOVES and not self.moves_pixels:
            raise NotLowered("it comes after a change of colors")
        step = (kind, size, longest, padding, pads_if_needed, scale, ratio, probability, colors)
        self.result.steps.append(step)

    # --- what they become -------------------------------------------------------------------------------

    def to_pixels(self, it: Any) -> None:
        if self.stage != "image":
            raise NotLowered("it comes twice")
        self.stage = "tensor"

    def to_tensor(self, it: Any) -> None:
        if torch.get_default_dtype() != torch.float32:
            raise NotLowered("torch's default dtype is not float32")
        self.to_pixels(it)
        self.result.dtype, self.stage = torch.float32, "floats"

    def to_dtype(self, it: Any) -> None:
        if it.dtype == self.images.dtype and self.stage == "tensor":
            return
        if it.dtype not in _FLOATS or self.stage in ("image", "cast"):
            raise NotLowered(f"from this to {it.dtype}")
        is_torchvisions = type(it).__module__ != "penstock.transforms"
        if self.stage == "tensor":
            if is_torchvisions and it.dtype != torch.float32:
                raise NotLowered("torchvision scales in half precision: make it float32 first")
            self.result.scale = bool(getattr(it, "scale", True))  # ConvertImageDtype always does
            self.stage = "floats"
        if it.dtype != torch.float32:
            self.stage = "cast"
        self.result.dtype = it.dtype

    def normalize(self, it: Any) -> None:
        if self.stage != "floats":
            raise NotLowered("it is not for float32 just once")
        mean, std = numbers_of(it.mean), numbers_of(it.std)
        channels = self.result.channels
        mean, std = (each * channels if len(each) == 1 else each for each in (mean, std))
        if len(mean) != channels or len(std) != channels or not all(each > 0 for each in std):
            raise NotLowered(f"mean and std are not {channels} numbers, or a std is not above 0")
        self.result.mean, self.result.std, self.stage = mean, std, "normalised"

    def nothing(self, it: Any) -> None:
        """Of what the core makes anyway."""


_MOVES = ("resize", "resize shorter", "center crop", "random crop", "random resized crop", "pad")


class _RowLowering(_Lowering):
    """The same for what is a tensor of pixels from the start."""

    def __init__(self, decode: Decode, channels: int | None) -> None:
        super().__init__(decode, Decoded(channels=channels or 1))
        self.stage = "tensor"
        self.result.has_channels = channels is not None

    def before_resize(self, it: Any) -> None:
        if self.stage == "tensor" and self.decode != "fast":
            raise NotLowered(
                'torch resizes otherwise than the core: allow it by ImageRows(..., resize="fast")'
            )
        super().before_resize(it)

    def to_pixels(self, it: Any) -> None:
        if self.stage != "tensor" or type(it).__name__ == "PILToTensor":
            raise NotLowered("the row is a tensor already")
        self.result.has_channels = True


def _two(size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


_TAKERS: dict[str, str] = {
    "CenterCrop": "center_crop",
    "ColorJitter": "color_jitter",
    "ConvertImageDtype": "to_dtype",
    "Grayscale": "grayscale",
    "Identity": "nothing",
    "Normalize": "normalize",
    "PILToTensor": "to_pixels",
    "Pad": "pad",
    "RandomApply": "random_apply",
    "RandomCrop": "random_crop",
    "RandomGrayscale": "random_grayscale",
    "RandomHorizontalFlip": "flip_horizontally",
    "RandomResizedCrop": "random_resized_crop",
    "RandomVerticalFlip": "flip_vertically",
    "Resize": "resize",
    "ToDtype": "to_dtype",
    "ToImage": "to_pixels",
    "ToPureTensor": "nothing",
    "ToTensor": "to_tensor",
}
