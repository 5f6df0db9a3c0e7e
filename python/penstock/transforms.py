"""torchvision's transforms for images, as descriptions that the core can carry out.

Names, arguments and defaults are torchvision's. Given to an `ImageFolder` or `ImageDataset`, they run
natively, fused with decoding; given to a `ShardDataset` or `TensorDataset`, fused with the gather. Called
with a Pillow image or a tensor of shape (channels, height, width), they do the same in Python, with torch's
random numbers. (Tensors are resized by torch, in which a sample may differ from Pillow's by a gray level or
two.)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from penstock.errors import ArgumentError, SchemaError

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "Grayscale",
    "ImageRows",
    "Normalize",
    "PILToTensor",
    "Pad",
    "RandomApply",
    "RandomCrop",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomVerticalFlip",
    "Resize",
    "ToDtype",
    "ToTensor",
]

Image: TypeAlias = Any
"""A Pillow image, or a tensor of shape (channels, height, width)."""

Size: TypeAlias = "int | Sequence[int]"
Interpolation: TypeAlias = Literal["bilinear", "bicubic"]
Fill: TypeAlias = "float | Sequence[float]"
PaddingMode: TypeAlias = Literal["constant", "edge", "reflect", "symmetric"]

_RESAMPLE = {"bilinear": 2, "bicubic": 3}  # as Pillow numbers them
_PADDING_MODES = ("constant", "edge", "reflect", "symmetric")  # as numpy calls them too
_ATTEMPTS = 10


class _Transform(ABC):
    """Can be called with an image, and shows its attributes."""

    @abstractmethod
    def __call__(self, image: Any) -> Any:
        """Do so."""

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"


class Compose(_Transform):
    """One transform after the other.

    Args:
        transforms: Called in this order.
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, image: Image) -> Any:
        """Do so."""
        for transform in self.transforms:
            image = transform(image)
        return image


class Resize(_Transform):
    """Resize, with antialiasing.

    Args:
        size: (height, width); or a number: the shorter side becomes that long, the other in proportion.
        interpolation: "bilinear" or "bicubic". Default: "bilinear".
        max_size: With a number for size: how long the longer side may be at most. Default: any length.
        antialias: False: without antialiasing, of tensors; Pillow images are always antialiased, as in
            torchvision. None is True. Default: True.

    Raises:
        ArgumentError: The interpolation is another; `max_size` is no more than the size, or stands beside
            two numbers.
    """

    def __init__(
        self,
        size: Size,
        interpolation: Interpolation = "bilinear",
        max_size: int | None = None,
        antialias: bool | None = True,
    ) -> None:
        height, width = _pair(size, "size", least=1)
        self.size = height if isinstance(size, int) or len(size) == 1 else (height, width)
        self.interpolation = _known(interpolation)
        self.max_size = max_size
        self.antialias = antialias is not False
        if max_size is not None and (not isinstance(self.size, int) or max_size <= self.size):
            raise ArgumentError(
                "max_size is for a size of one number, and more than that", actual=f"{size}, {max_size}"
            )

    def __call__(self, image: Image) -> Image:
        """Do so."""
        width, height = _size_of(image)
        if not isinstance(self.size, int):
            return _resized(image, self.size[1], self.size[0], self)
        shorter, longer = self.size, int(self.size * max(width, height) / min(width, height))
        if self.max_size is not None and longer > self.max_size:
            shorter, longer = int(self.max_size * shorter / longer), self.max_size
        new = (shorter, longer) if width <= height else (longer, shorter)
        return _resized(image, *new, self)


class CenterCrop(_Transform):
    """Cut out the middle; of a smaller image with a black border.

    Args:
        size: (height, width), or one number for both.
    """

    def __init__(self, size: Size) -> None:
        self.size = _pair(size, "size", least=1)

    def __call__(self, image: Image) -> Image:
        """Do so."""
        height, width = self.size
        here = _size_of(image)
        lacks = max(width - here[0], 0), max(height - here[1], 0)
        if any(lacks):
            border = lacks[0] // 2, lacks[1] // 2, (lacks[0] + 1) // 2, (lacks[1] + 1) // 2
            image = _padded(image, border, 0)
            here = _size_of(image)
        return _cropped(image, round((here[0] - width) / 2), round((here[1] - height) / 2), width, height)


class Pad(_Transform):
    """Put a border around.

    Args:
        padding: (left, top, right, bottom), or (left and right, top and bottom), or one number.
        fill: Of every channel of the border, or one number for each. Default: 0.
        padding_mode: "constant", the fill; or, in Python, of the image itself: "edge", its last pixels, or
            what lies behind them mirrored, without ("reflect") or with them ("symmetric"). Default:
            "constant".
    """

    def __init__(
        self, padding: int | Sequence[int], fill: Fill = 0, padding_mode: PaddingMode = "constant"
    ) -> None:
        self.padding = padding if isinstance(padding, int) else list(padding)
        self.fill = _fill(fill)
        self.padding_mode = _padding_mode(padding_mode)
        border_of(self.padding)

    def __call__(self, image: Image) -> Image:
        """Do so."""
        return _padded(image, border_of(self.padding), self.fill, self.padding_mode)


class RandomCrop(_Transform):
    """Cut out a part of this size, at any place.

    Args:
        size: (height, width), or one number for both.
        padding: A border put around first: see `Pad`. Default: none.
        pad_if_needed: Where the image is too small, put a border of as much as is missing at both ends.
            Default: False: that is an error.
        fill: Of every channel of the border, or one number for each. Default: 0.
        padding_mode: See `Pad`. Default: "constant".
    """

    def __init__(
        self,
        size: Size,
        padding: int | Sequence[int] | None = None,
        pad_if_needed: bool = False,
        fill: Fill = 0,
        padding_mode: PaddingMode = "constant",
    ) -> None:
        self.size = _pair(size, "size", least=1)
        self.padding = padding
        self.pad_if_needed = pad_if_needed
        self.fill = _fill(fill)
        self.padding_mode = _padding_mode(padding_mode)
        if padding is not None:
            border_of(padding)

    def __call__(self, image: Image) -> Image:
        """Do so.

        Raises:
            ArgumentError: The image is smaller than the crop.
        """
        height, width = self.size
        if self.padding is not None:
            image = _padded(image, border_of(self.padding), self.fill, self.padding_mode)
        here = _size_of(image)
        lacks = max(width - here[0], 0), max(height - here[1], 0)
        if self.pad_if_needed and any(lacks):
            image = _padded(image, (*lacks, *lacks), self.fill, self.padding_mode)
            here = _size_of(image)
        if here[0] < width or here[1] < height:
            raise ArgumentError(
                "the image is smaller than the random crop",
                expected=f"{width} x {height} pixels or more",
                actual=f"{here[0]} x {here[1]} pixels",
                hint="pad_if_needed=True puts a border around it.",
            )
        y = _upto(here[1] - height)
        return _cropped(image, _upto(here[0] - width), y, width, height)


class RandomResizedCrop(_Transform):
    """Cut out any part of a random area and aspect, and resize it.

    Args:
        size: (height, width) of the result, or one number for both.
        scale: Least and most of the area to cut out, as a fraction. Default: (0.08, 1).
        ratio: Least and most of its width to its height. Default: (3/4, 4/3).
        interpolation: "bilinear" or "bicubic". Default: "bilinear".
        antialias: See `Resize`. Default: True.
    """

    def __init__(
        self,
        size: Size,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3.0 / 4.0, 4.0 / 3.0),
        interpolation: Interpolation = "bilinear",
        antialias: bool | None = True,
    ) -> None:
        self.size = _pair(size, "size", least=1)
        self.scale = _range(scale, "scale", least=0)
        self.ratio = _range(ratio, "ratio", least=1e-6)
        self.interpolation = _known(interpolation)
        self.antialias = antialias is not False

    def __call__(self, image: Image) -> Image:
        """Do so."""
        part = _cropped(image, *self._part(*_size_of(image)))
        return _resized(part, self.size[1], self.size[0], self)

    def _part(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, width, height."""
        low, high = (math.log(bound) for bound in self.ratio)
        for _ in range(_ATTEMPTS):
            area = width * height * _uniform(*self.scale)
            ratio = math.exp(_uniform(low, high))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                y = _upto(height - h)
                return _upto(width - w), y, w, h
        w, h = width, height
        if width / height < self.ratio[0]:
            h = max(round(width / self.ratio[0]), 1)
        elif width / height > self.ratio[1]:
            w = max(round(height * self.ratio[1]), 1)
        return (width - w) // 2, (height - h) // 2, w, h


class RandomHorizontalFlip(_Transform):
    """Mirror left and right.

    Args:
        p: How probably. Default: 0.5.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = _probability(p)

    def __call__(self, image: Image) -> Image:
        """Do so."""
        return _flipped(image, -1) if _uniform(0, 1) < self.p else image


class RandomVerticalFlip(_Transform):
    """Mirror top and bottom.

    Args:
        p: How probably. Default: 0.5.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = _probability(p)

    def __call__(self, image: Image) -> Image:
        """Do so."""
        return _flipped(image, -2) if _uniform(0, 1) < self.p else image


class ColorJitter(_Transform):
    """Change brightness, contrast, saturation and hue at random, in any order.

    Of Pillow images, and of uint8 tensors of 1 or 3 channels, as of Pillow images.

    Args:
        brightness: The factor is from max(0, 1 - brightness) to 1 + brightness; or its least and most, from
            0. Default: 0, no change.
        contrast: Likewise.
        saturation: Likewise.
        hue: The turn is from -hue to hue, 0.5 being half of the circle; or its least and most. Default: 0.
    """

    def __init__(
        self,
        brightness: float | Sequence[float] = 0,
        contrast: float | Sequence[float] = 0,
        saturation: float | Sequence[float] = 0,
        hue: float | Sequence[float] = 0,
    ) -> None:
        self.brightness = _change(brightness, "brightness", 1)
        self.contrast = _change(contrast, "contrast", 1)
        self.saturation = _change(saturation, "saturation", 1)
        self.hue = _change(hue, "hue", 0)

    def __call__(self, image: Image) -> Image:
        """Do so.

        Raises:
            SchemaError: It is a tensor of something else.
        """
        if isinstance(image, Tensor):
            return PILToTensor()(self(_as_pillow(image, "ColorJitter")))
        order = [0, 1, 2, 3]
        for i in (3, 2, 1):
            j = _upto(i)
            order[i], order[j] = order[j], order[i]
        ranges = changes_of(self)
        factors = [_uniform(low, high) for low, high in ranges]
        for i in order:
            if ranges[i] != _NEUTRAL[i]:
                image = _CHANGES[i](image, factors[i])
        return image


class RandomGrayscale(_Transform):
    """Luma in all channels, as by `Grayscale`.

    Args:
        p: How probably. Default: 0.1.
    """

    def __init__(self, p: float = 0.1) -> None:
        self.p = _probability(p)

    def __call__(self, image: Image) -> Image:
        """Do so."""
        return _gray(image, None, "RandomGrayscale") if _uniform(0, 1) < self.p else image


class RandomApply(_Transform):
    """All of these transforms, or none; natively, of one ColorJitter.

    Args:
        transforms: Called in this order.
        p: How probably. Default: 0.5.
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]], p: float = 0.5) -> None:
        self.transforms = list(transforms)
        self.p = _probability(p)

    def __call__(self, image: Image) -> Any:
        """Do so."""
        if _uniform(0, 1) < self.p:
            for transform in self.transforms:
                image = transform(image)
        return image


class Grayscale(_Transform):
    """Luma.

    Of Pillow images, and of uint8 tensors of 1 or 3 channels, as of Pillow images; of floats with the
    weights of torchvision, which are rounded to four digits.

    Args:
        num_output_channels: 1, or 3 that are all alike. Default: 1.
    """

    def __init__(self, num_output_channels: int = 1) -> None:
        if num_output_channels not in (1, 3):
            raise ArgumentError("num_output_channels is 1 or 3", actual=repr(num_output_channels))
        self.num_output_channels = num_output_channels

    def __call__(self, image: Image) -> Image:
        """Do so."""
        return _gray(image, self.num_output_channels, "Grayscale")


class PILToTensor(_Transform):
    """A Pillow image as a tensor, shape (channels, height, width), uint8.

    Of modes "I;16", "I" and "F", which have more than 8 bits, uint16, int32 and float32. Black and white
    (mode "1") are 0 and 255, as where the core decodes.
    """

    def __call__(self, image: Image) -> Tensor:
        """Do so."""
        return _channels_first(np.asarray(image.convert("L") if image.mode == "1" else image))


class ToTensor(_Transform):
    """An image as a tensor (channels, height, width), float32, from 0 to 1.

    Of a Pillow image, a uint8 tensor, or an array of shape (height, width, channels) or (height, width). As
    in torchvision, an array that is not uint8 keeps its numbers and dtype.
    """

    def __call__(self, image: Any) -> Tensor:
        """Do so."""
        if isinstance(image, np.ndarray):
            image = _channels_first(image)
            if image.dtype != torch.uint8:
                return cast(Tensor, image)
        elif not isinstance(image, Tensor):
            image = PILToTensor()(image)
        elif image.ndim == 2:
            image = image[None]
        return ToDtype(torch.float32, scale=True)(image)


class ToDtype(_Transform):
    """Cast a tensor.

    Args:
        dtype: torch.float32, torch.float16 or torch.bfloat16.
        scale: Divide uint8 by 255, and uint16 by 65,535, in float32. Default: False.
    """

    def __init__(self, dtype: torch.dtype, scale: bool = False) -> None:
        self.dtype = dtype
        self.scale = scale
        if dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ArgumentError(
                "no such dtype of images",
                expected="torch.float32, torch.float16 or torch.bfloat16",
                actual=repr(dtype),
            )

    def __call__(self, image: Tensor) -> Tensor:
        """Do so."""
        if self.scale and image.dtype in (torch.uint8, torch.uint16):
            image = image.to(torch.float32).div(torch.iinfo(image.dtype).max)
        return image.to(self.dtype)


class Normalize(_Transform):
    """Subtract a mean and divide by a standard deviation, channel by channel.

    Args:
        mean: One for each channel, or one number for all. Images of two dimensions have one channel.
        std: Likewise, above 0.
        inplace: Called with a tensor, change it. Default: False.
    """

    def __init__(
        self, mean: float | Sequence[float], std: float | Sequence[float], inplace: bool = False
    ) -> None:
        self.mean = numbers_of(mean)
        self.std = numbers_of(std)
        self.inplace = inplace
        if len(self.mean) != len(self.std) or not all(each > 0 for each in self.std):
            raise ArgumentError("a mean and a std above 0 for each channel", actual=f"{mean}, {std}")

    def __call__(self, image: Tensor) -> Tensor:
        """Do so."""
        if not image.is_floating_point():
            raise SchemaError("only floats are normalised", actual=str(image.dtype), hint="ToTensor() first.")
        if image.ndim == 2 and len(self.mean) > 1:
            raise SchemaError("an image of two dimensions has one channel", actual=f"{len(self.mean)} means")
        shape = (-1, 1, 1) if image.ndim > 2 else (1,)
        mean, std = (torch.tensor(each, dtype=image.dtype).view(shape) for each in (self.mean, self.std))
        return (image.sub_(mean) if self.inplace else image.sub(mean)).div_(std)


@dataclass(frozen=True)
class ImageRows:
    """A transform of images that are rows of an array, and how they lie there.

    For `ShardDataset` and `TensorDataset`; they take another transform of images as `ImageRows(transform)`.

    Args:
        transform: Of a tensor, shape (channels, height, width), or (height, width) where rows have two
            dimensions.
        layout: How rows of three dimensions lie: "CHW", channels first, or "HWC". Default: as the shape says:
            the dimension of 1 to 4 at one of its ends is that of the channels, else the first.
        channels_last: Samples are (height, width, channels) again. Default: False.
        resize: "exact": a resize is torch's, in Python; "fast": it is the core's, in which a sample may
            differ from torch's by a gray level or two. Default: "exact".

    Raises:
        ArgumentError: `layout` or `resize` is none of these.
    """

    transform: Callable[[Any], Any]
    layout: Literal["CHW", "HWC"] | None = None
    channels_last: bool = False
    resize: Literal["exact", "fast"] = "exact"

    def __post_init__(self) -> None:
        if self.layout not in (None, "CHW", "HWC") or self.resize not in ("exact", "fast"):
            raise ArgumentError(
                "no such layout or resize",
                expected='"CHW" or "HWC"; "exact" or "fast"',
                actual=f"{self.layout!r}, {self.resize!r}",
            )

    def has_channels_last(self, shape: Sequence[int]) -> bool:
        """Whether rows of this shape do.

        Raises:
            ArgumentError: The shape does not say.
        """
        if len(shape) != 3 or self.layout is not None:
            return len(shape) == 3 and self.layout == "HWC"
        first, last = (1 <= shape[end] <= 4 for end in (0, -1))
        if first and last:
            raise ArgumentError(
                "rows of this shape may have their channels first or last",
                actual=str(tuple(shape)),
                hint='Say penstock.transforms.ImageRows(transform, layout="CHW"), or "HWC".',
            )
        return last

    def __call__(self, image: Tensor) -> Any:
        """Do so."""
        if self.has_channels_last(image.shape):
            image = image.permute(2, 0, 1)
        image = self.transform(image)
        return image.permute(1, 2, 0) if self.channels_last and image.ndim == 3 else image


# --- arguments -------------------------------------------------------------------------------------------


def border_of(padding: int | Sequence[int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, of any of torchvision's ways to say them.

    Raises:
        ArgumentError: There are 3 numbers or more than 4, or one is less than 0.
    """
    numbers = [padding] if isinstance(padding, int) else list(padding)
    if len(numbers) not in (1, 2, 4) or not all(isinstance(each, int) and each >= 0 for each in numbers):
        raise ArgumentError("padding is 1, 2 or 4 numbers from 0", actual=repr(padding))
    return cast(tuple[int, int, int, int], tuple(numbers * (4 // len(numbers))))


def numbers_of(value: Any) -> list[float]:
    """Those that a mean or std is given as: a sequence, or one number."""
    return [float(each) for each in np.ravel(value)]


_NEUTRAL = ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (0.0, 0.0))


def changes_of(jitter: Any) -> tuple[tuple[float, float], ...]:
    """Least and most of brightness, contrast, saturation and hue, of our ColorJitter or torchvision's."""
    ranges = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    return tuple(
        neutral if each is None else (float(each[0]), float(each[1]))
        for each, neutral in zip(ranges, _NEUTRAL, strict=True)
    )


def _change(value: float | Sequence[float], name: str, center: float) -> tuple[float, float] | None:
    """Least and most; none where nothing changes."""
    least, most = (0.0, math.inf) if center else (-0.5, 0.5)
    if isinstance(value, (int, float)):
        low, high = (max(center - value, 0) if center else -value), center + value
        is_so = value >= 0
    else:
        low, high = value
        is_so = True
    if not (is_so and least <= low <= high <= most and high < math.inf):
        expected = "from 0" if center else "from -0.5 to 0.5, or a number from 0 to 0.5"
        raise ArgumentError(
            f"{name} is a number or a least and a most", expected=expected, actual=repr(value)
        )
    return None if low == high == center else (float(low), float(high))


def _pair(size: Size, name: str, least: int) -> tuple[int, int]:
    numbers = [size] if isinstance(size, int) else list(size)
    if len(numbers) not in (1, 2) or not all(isinstance(each, int) and each >= least for each in numbers):
        raise ArgumentError(f"{name} is one number or two", expected=f"{least} or more", actual=repr(size))
    return numbers[0], numbers[-1]


def _range(numbers: Sequence[float], name: str, least: float) -> tuple[float, float]:
    low, high = (float(each) for each in numbers)
    if not least <= low <= high < math.inf:
        raise ArgumentError(f"{name} is a least and a most", expected=f"from {least}", actual=repr(numbers))
    return low, high


def _probability(p: float) -> float:
    if not 0 <= p <= 1:
        raise ArgumentError("a probability is from 0 to 1", actual=repr(p))
    return p


def _known(interpolation: Any) -> Interpolation:
    """By name, whether it is a string or one of torchvision's or Pillow's constants."""
    name = getattr(interpolation, "value", interpolation)
    name = next((known for known, number in _RESAMPLE.items() if number == name), name)
    if name not in _RESAMPLE:
        raise ArgumentError("no such interpolation", expected="bilinear or bicubic", actual=repr(name))
    return cast(Interpolation, name)


def _fill(fill: Fill | None) -> Fill:
    """None is 0, as in torchvision."""
    if fill is None or isinstance(fill, (int, float)):
        return fill or 0
    return list(fill)


def _padding_mode(name: PaddingMode) -> PaddingMode:
    if name not in _PADDING_MODES:
        raise ArgumentError("no such padding_mode", expected=", ".join(_PADDING_MODES), actual=repr(name))
    return name


# --- Pillow images and tensors ---------------------------------------------------------------------------


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(1, dtype=torch.float64))


def _upto(most: int) -> int:
    return int(torch.randint(0, most + 1, size=(1,)))


def _size_of(image: Image) -> tuple[int, int]:
    """Width and height."""
    return (image.shape[-1], image.shape[-2]) if isinstance(image, Tensor) else image.size


def _cropped(image: Image, x: int, y: int, width: int, height: int) -> Image:
    if isinstance(image, Tensor):
        return image[..., y : y + height, x : x + width]
    return image.crop((x, y, x + width, y + height))


def _flipped(image: Image, dimension: int) -> Image:
    if isinstance(image, Tensor):
        return image.flip(dimension)
    return image.transpose({-1: 0, -2: 1}[dimension])


def _channels_first(pixels: np.ndarray[Any, Any]) -> Tensor:
    """A tensor of its own, of pixels with channels last, or with none."""
    native = pixels.astype(pixels.dtype.newbyteorder("="))
    return torch.from_numpy(np.atleast_3d(native)).permute(2, 0, 1).contiguous()


def _as_pillow(image: Tensor, name: str) -> Image:
    """The Pillow image of these pixels."""
    from PIL import Image as pillow

    if image.dtype != torch.uint8 or image.ndim != 3 or len(image) not in (1, 3):
        raise SchemaError(
            f"{name} is for Pillow images, and for uint8 tensors of 1 or 3 channels",
            actual=f"a {image.dtype} tensor of shape {tuple(image.shape)}",
            hint="Put it before ToTensor().",
        )
    return pillow.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy())


def _gray(image: Image, channels: int | None, name: str) -> Image:
    """Luma in so many channels; None: in as many as there are."""
    if not isinstance(image, Tensor):
        mode = image.mode if channels is None else {1: "L", 3: "RGB"}[channels]
        return image.convert("L").convert(mode)
    if not image.is_floating_point() or len(image) not in (1, 3):
        return PILToTensor()(_gray(_as_pillow(image, name), channels, name))
    gray = image
    if len(image) == 3:
        red, green, blue = image  # weighed as torchvision does
        gray = (0.2989 * red + 0.587 * green + 0.114 * blue)[None]
    return gray.repeat(channels or len(image), 1, 1)


def _brighter(image: Image, factor: float) -> Image:
    from PIL import ImageEnhance

    return ImageEnhance.Brightness(image).enhance(factor)


def _with_contrast(image: Image, factor: float) -> Image:
    from PIL import ImageEnhance

    return ImageEnhance.Contrast(image).enhance(factor)


def _saturated(image: Image, factor: float) -> Image:
    from PIL import ImageEnhance

    return ImageEnhance.Color(image).enhance(factor)


def _turned(image: Image, turn: float) -> Image:
    """The hue, as torchvision turns it."""
    from PIL import Image as pillow

    if image.mode in ("L", "1", "I", "F"):
        return image
    hue, saturation, value = image.convert("HSV").split()
    by = int(turn * 255)
    hue = hue.point([(each + by) % 256 for each in range(256)])
    return pillow.merge("HSV", (hue, saturation, value)).convert(image.mode)


_CHANGES = (_brighter, _with_contrast, _saturated, _turned)


def _padded(
    image: Image, border: tuple[int, int, int, int], fill: Fill, mode: PaddingMode = "constant"
) -> Image:
    if mode != "constant":
        return _continued(image, border, mode)
    left, top, right, bottom = border
    inner_width, inner_height = _size_of(image)
    width, height = inner_width + left + right, inner_height + top + bottom
    if isinstance(image, Tensor):
        new = image.new_empty((*image.shape[:-2], height, width))
        new[:] = torch.as_tensor(fill, dtype=image.dtype).reshape(-1, 1, 1)
        new[..., top : top + inner_height, left : left + inner_width] = image
        return new
    from PIL import Image as pillow

    colors = [fill] if isinstance(fill, (int, float)) else list(fill)
    color = tuple(colors * len(image.getbands()) if len(colors) == 1 else colors)
    canvas = pillow.new(image.mode, (width, height), color if len(color) > 1 else color[0])
    canvas.paste(image, (left, top))
    return _with_palette(canvas, image)


def _continued(image: Image, border: tuple[int, int, int, int], mode: PaddingMode) -> Image:
    """With a border of pixels of its own."""
    left, top, right, bottom = border
    width, height = _size_of(image)
    rows = np.pad(np.arange(height), (top, bottom), mode)[:, None]  # which pixel each becomes
    columns = np.pad(np.arange(width), (left, right), mode)
    if isinstance(image, Tensor):
        return image[..., torch.from_numpy(rows), torch.from_numpy(columns)]
    from PIL import Image as pillow

    raw = "1;8" if image.mode == "1" else image.mode
    size = len(columns), len(rows)
    new = pillow.frombytes(image.mode, size, np.array(image)[rows, columns].tobytes(), "raw", raw)
    return _with_palette(new, image)


def _with_palette(image: Image, other: Image) -> Image:
    """The image, its colors those of the other where they are numbered."""
    if image.mode == "P":
        image.putpalette(other.getpalette())
    return image


def _resized(image: Image, width: int, height: int, how: Resize | RandomResizedCrop) -> Image:
    if not isinstance(image, Tensor):
        return image.resize((width, height), _RESAMPLE[how.interpolation])
    whole = image[None].to(torch.float32)
    new = torch.nn.functional.interpolate(
        whole, (height, width), mode=how.interpolation, antialias=how.antialias
    )[0]
    return new if image.is_floating_point() else new.round().clamp(0, 255).to(image.dtype)
