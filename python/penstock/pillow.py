"""Pillow as a decoder for the core's threads: of what the core does not decode itself."""

from __future__ import annotations

import atexit
import importlib.metadata
import io
import os
import struct
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

from penstock import _core
from penstock.errors import FormatError

__all__ = ["open_image", "pillow_version", "resize_rule"]

Opened: TypeAlias = tuple[int, int, int, bool, int, Callable[[int, int, int, int], bytes]]
"""Width, height, channels, whether the last is alpha, orientation, and what decodes a part."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
"""Not all that Pillow has: some of its decoders run other programs."""

_ORIENTATION = 0x0112
_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}
_NOT_OF_THIS_FORMAT = (SyntaxError, IndexError, TypeError, struct.error)
"""What Pillow's own `open` takes for that."""

_importing = threading.Lock()
os.register_at_fork(
    before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release
)


def pillow_version() -> str:
    """Of the Pillow that is installed; empty where there is none."""
    try:
        return importlib.metadata.version("pillow")
    except importlib.metadata.PackageNotFoundError:
        return ""


def resize_rule() -> str:
    """The order of the passes of a resize, which shows in the last bit, in the Pillow that is installed."""
    try:
        major = int(pillow_version().split(".")[0])
    except ValueError:
        return "13"
    return "11" if major <= 11 else "13" if major == 13 else "12"


def _pillow() -> Any:
    """`PIL.Image`, its formats loaded; nothing where it is not installed.

    Not imported while another thread forks: the child would wait for ever for the import to end.
    """
    with _importing:
        try:
            from PIL import Image
        except ImportError:
            return None
        Image.init()
        return Image


def open_image(data: bytes, mode: str, bits: int, orientation: bool) -> Opened | None:
    """Read an image's header.

    Pillow's own limit of pixels is not looked at: the core has one.

    Args:
        data: The file.
        mode: What shall be decoded: "RGB", "L" or "unchanged", as in the core.
        bits: Of a sample: 8 or 16.
        orientation: Whether to look for the EXIF tag.

    Returns:
        What the core asks for; None where no format is known that begins so, or there is no Pillow.

    Raises:
        FormatError: The header is broken, or there are no samples of that many bits.
        Exception: What else Pillow raises.
    """
    image = _opened(data)
    if image is None:
        return None
    target = _target(image, mode, bits)
    turned = 1
    if orientation and image.format != "TIFF":  # which Pillow turns upright itself
        turned = image.getexif().get(_ORIENTATION, 1)
    channels = _CHANNELS.get(target, 1)
    part = _Part(image, target)
    return (*image.size, channels, target in ("LA", "RGBA"), turned if turned in range(1, 9) else 1, part)


def _opened(data: bytes) -> Any:
    """What the first format makes of the data that knows it."""
    pillow = _pillow()
    if pillow is None:
        return None
    problem: Exception | str | None = None
    for name in _FORMATS:
        if name not in pillow.OPEN:
            continue
        factory, accept = pillow.OPEN[name]
        accepted = accept is None or accept(data[:16])
        if isinstance(accepted, str):
            problem = accepted
        elif accepted:
            try:
                return factory(io.BytesIO(data), "")
            except _NOT_OF_THIS_FORMAT as error:
                problem = error
    if problem is not None:
        raise FormatError(str(problem) or type(problem).__name__)
    return None


def _target(image: Any, mode: str, bits: int) -> str:
    """The mode to convert to: of Pillow's the one with the pixels that the core would give."""
    stored = image.mode
    if bits == 16:
        if not stored.startswith("I;16"):
            raise FormatError("it has no gray samples of 16 bits", actual=f"mode {stored}")
        return "I;16"
    is_gray = stored in ("1", "L", "LA", "La", "I", "F") or stored.startswith("I;16")
    if mode == "unchanged":
        if stored in _CHANNELS:
            return str(stored)
        has_alpha = stored in ("PA", "RGBa") or (stored == "P" and "transparency" in image.info)
        return "L" if is_gray else "RGBA" if has_alpha else "RGB"
    return "L" if mode == "L" or is_gray else "RGB"


class _Part:
    """Decodes an image, converts it and cuts a part out.

    Args:
        image: As opened.
        target: Its mode then.
    """

    def __init__(self, image: Any, target: str) -> None:
        self._image = image
        self._target = target
        self._size = image.size

    def __call__(self, left: int, top: int, right: int, bottom: int) -> bytes:
        """Once: samples without gaps, but three channels lie in four.

        Raises:
            Exception: What Pillow raises of broken data.
        """
        with self._image as image:
            image.load()
            if not self._target.endswith("A"):  # or Pillow warns that it gets lost
                image.info.pop("transparency", None)
            if image.size != self._size:
                raise FormatError("it is of another size than its header says")
            is_so = image.mode == self._target or (self._target == "I;16" and image.mode.startswith("I;16"))
            pixels = image if is_so else image.convert(self._target)
            if (left, top, right, bottom) != (0, 0, *pixels.size):
                pixels = pixels.crop((left, top, right, bottom))
            raw = {"RGB": "RGBX", "I;16": "I;16N"}.get(self._target, self._target)
            return bytes(pixels.tobytes("raw", raw))


_core.set_image_opener(open_image)
atexit.register(_core.close_image_opener)
