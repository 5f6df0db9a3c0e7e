"""Images for tests: synthesised, encoded in every way there is, and decoded by Pillow as the reference."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, ImageFile

ImageFile.MAXBLOCK = 1 << 20  # room for a progressive JPEG of noise, before Pillow 13

Pixels = npt.NDArray[Any]
"""(height, width, channels), uint8 or uint16."""

RULE = PIL.__version__.split(".")[0]
"""Whose order of resize passes the installed Pillow has."""

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def photograph(width: int, height: int, channels: int = 3, seed: int = 0) -> Pixels:
    """Smooth patches with noise: what a JPEG of a photograph is made of."""
    random = np.random.default_rng([width, height, channels, seed])
    size = (max(2, width // 16), max(2, height // 16))
    planes = [
        Image.fromarray(random.integers(0, 256, size[::-1], np.uint8)).resize((width, height))
        for _ in range(channels)
    ]
    noise = random.integers(-20, 21, (height, width, channels))
    pixels: Pixels = np.clip(np.stack([np.asarray(plane) for plane in planes], -1) + noise, 0, 255)
    return pixels.astype(np.uint8)


def to_pillow(pixels: Pixels) -> Image.Image:
    """As L, LA, RGB or RGBA; 16 bits and one channel as I;16."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def to_jpeg(pixels: Pixels, **options: Any) -> bytes:
    """Encode as Pillow does; four channels are CMYK."""
    if pixels.shape[2] == 4:
        size = (pixels.shape[1], pixels.shape[0])
        return _saved(Image.frombytes("CMYK", size, pixels.tobytes()), "JPEG", options)
    return _saved(to_pillow(pixels), "JPEG", options)


def to_png(image: Image.Image, **options: Any) -> bytes:
    """Encode as Pillow does."""
    return _saved(image, "PNG", options)


def _saved(image: Image.Image, form: str, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def by_pillow(data: bytes, mode: str = "RGB") -> Pixels:
    """What Pillow decodes; `mode="unchanged"`: without a conversion."""
    with Image.open(io.BytesIO(data)) as image:
        if mode == "unchanged":
            return from_pillow(image)
        if image.mode == "P" and "transparency" in image.info:  # or Pillow warns
            return from_pillow(image.convert("RGBA").convert(mode))
        return from_pillow(image.convert(mode))


def from_pillow(image: Image.Image) -> Pixels:
    """The pixels, with a last dimension for the channels."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def write_png(pixels: Pixels, *, interlaced: bool = False, extra: bytes = b"") -> bytes:
    """A PNG of 8 or 16 bits and 1 to 4 channels, which Pillow cannot write: 16-bit colors, interlaced."""
    height, width, channels = pixels.shape
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, color_type, 0, 0, interlaced)
    passes = [pixels[y::down, x::across] for x, y, across, down in ADAM7] if interlaced else [pixels]
    rows = b"".join(
        b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes()
        for part in passes
        if part.size
        for row in part
    )
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
