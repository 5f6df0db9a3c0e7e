"""Images as Pillow has them, one by one, for transforms that Python does."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from penstock import _core
from penstock.datasets.image_options import ImageOptions
from penstock.datasets.image_shards import Images
from penstock.errors import FormatError, ShardError, unreadable

__all__ = ["ATTEMPTS", "InPython", "OwnLoader", "headers_by_pillow", "image_at", "opened_image"]

ATTEMPTS = 100
"""To find an image that can stand in for a broken one."""

_MOST_TOLD = 1000


@dataclass(frozen=True)
class OwnLoader:
    """A user's function that makes an image of a file, called with its path below a root."""

    function: Callable[[str], Any]
    root: str

    def __call__(self, images: Images, row: int) -> Any:
        """The image of a row.

        Raises:
            FormatError: The function raised.
            ShardError: It could not read a file.
        """
        assert isinstance(images, _core.FileIndex)
        path = os.path.join(self.root, images.ids(np.array([row]), ())[0])
        try:
            return self.function(path)
        except (FormatError, ShardError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise unreadable(path, error) from error
            raise FormatError(f"loader= raised {type(error).__name__}: {error}", path=path) from error


class InPython:
    """Makes samples of the rows of a table that holds numbers of images: one Python call each.

    Args:
        files: The images.
        labels: One for each, or none.
        transform: What is done to each, if anything.
        options: How they are opened.
        log: Where to note path and problem of those that others stand in for.
        loader: What opens them. Default: Pillow.
    """

    def __init__(
        self,
        files: Images,
        labels: Tensor | None,
        transform: Callable[[Any], Any] | None,
        options: ImageOptions,
        log: list[tuple[str, str]],
        loader: OwnLoader | None = None,
    ) -> None:
        self._files = files
        self._labels = labels
        self._transform = transform
        self._attempts = ATTEMPTS if options.on_error != "raise" else 0
        self._options = options
        self._log = log
        self._loader = loader

    def __call__(self, sample: Any) -> Any:
        """The sample of a row, which is (number, pixels) where the core has decoded it, or the number."""
        first = sample if self._labels is None else sample[0]
        row, pixels = first if isinstance(first, tuple) else (int(first), None)
        if pixels is None:
            image, row = self._some_image(row)
        else:
            image = _of_pixels(pixels, self._files, row, self._options.max_pixels)
        if self._transform is not None:
            image = self._transform(image)
        if self._labels is None:
            return image
        label = self._labels[row]
        is_number = label.ndim == 0 and not label.is_floating_point()
        return image, label.item() if is_number else label

    def _some_image(self, row: int) -> tuple[Any, int]:
        """The image of a row, or of one that stands in for it; and which that is."""
        other = row
        for attempt in range(self._attempts):
            try:
                return self._image(other), other
            except (FormatError, ShardError) as error:
                if len(self._log) < _MOST_TOLD:
                    self._log.append((str(error.path), error.problem))
                other = _core.derive_key(_core.derive_key(0, row), attempt) % self._files.num_files
        return self._image(other), other

    def _image(self, row: int) -> Any:
        if self._loader is not None:
            return self._loader(self._files, row)
        return _by_pillow(self._files, row, self._options.max_pixels, self._options)


def _of_pixels(pixels: Tensor, images: Images, row: int, max_pixels: int) -> Any:
    """The image that `_by_pillow` gives, of pixels that the core has decoded, shape (height, width, 3)."""
    from PIL import Image

    _, _, opened = opened_image(images, row, max_pixels)
    with opened() as file, Image.open(file) as header:
        if "transparency" in header.info:  # which becomes something else as the image becomes RGB
            return header.convert("RGB")
        image = Image.fromarray(pixels.numpy())
        image.info = header.info
    return image


def _by_pillow(images: Images, row: int, max_pixels: int, options: ImageOptions | None = None) -> Any:
    """An image as torchvision's loader gives it, but for the options; None, only its header read, without.

    Raises:
        FormatError: It is no image, or a broken one.
        ShardError: It cannot be read.
    """
    return _decoded_by_pillow(*opened_image(images, row, max_pixels), options)


def image_at(path: str, options: ImageOptions) -> Any:
    """The same of a file by its path."""
    return _decoded_by_pillow(path, "", lambda: open(path, "rb"), options)


def _decoded_by_pillow(path: str, part: str, opened: Callable[[], Any], options: ImageOptions | None) -> Any:
    from PIL import Image

    try:
        with opened() as file:
            try:
                with Image.open(file) as image:
                    return None if options is None else _converted(image, options)
            except FormatError as error:
                error.path = path
                raise
            except Exception as error:  # Pillow raises what its formats happen to
                raise FormatError(f"{part}Pillow cannot decode it: {error}", path=path) from error
    except (FormatError, ShardError):
        raise
    except OSError as error:
        raise unreadable(path, error) from error


def _converted(image: Any, options: ImageOptions) -> Any:
    from PIL import ImageOps

    is_wide = image.mode.startswith("I;16")
    if options.dtype == "uint16" and not is_wide:
        raise FormatError("Pillow has no 16 bits of this image", expected="16-bit gray", actual=image.mode)
    if options.apply_exif_orientation:
        image = ImageOps.exif_transpose(image)
    if options.mode == "unchanged" and image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    if options.mode == "unchanged" or options.dtype == "uint16":
        return image.copy()
    return image.convert(options.mode)


def opened_image(images: Images, row: int, max_pixels: int) -> tuple[str, str, Callable[[], Any]]:
    """Path of an image's file, what it is called in there, for a message, and what opens it."""
    if isinstance(images, _core.FileIndex):
        name = images.ids(np.array([row]), ())[0]
        path = os.path.join(os.fsdecode(images.root) or "/", name)
        return path, "", lambda: open(path, "rb")
    place, member = map(os.fsdecode, images.place(row))
    return place, f"image {member!r}: ", lambda: io.BytesIO(_core.read_image(images, row, max_pixels))


def headers_by_pillow(files: Images, max_pixels: int) -> list[tuple[int, str]]:
    """Number and problem of each image whose header cannot be read."""
    failures = []
    for number in range(files.num_files):
        try:
            _by_pillow(files, number, max_pixels)
        except (FormatError, ShardError) as error:
            failures.append((number, error.problem))
    return failures
