"""One thread, JPEGs of 500 x 375 at quality 90 in memory: to normalised float32 samples of (3, 224, 224)."""

from __future__ import annotations

import ctypes
import ctypes.util
import io
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from penstock import _core

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WIDTH, HEIGHT, SIDE = 500, 375, 224


@dataclass(frozen=True)
class Photo:
    """A JPEG, and what RandomResizedCrop and RandomHorizontalFlip draw for it.

    Attributes:
        data: The file.
        crop: Left, top, width, height; None where the whole image is resized.
        flip: Whether it is mirrored.
    """

    data: bytes
    crop: tuple[int, int, int, int] | None
    flip: bool


def make_photos(count: int) -> list[Photo]:
    """Parts of two real photographs, with some noise, so that no two are alike."""
    draw, noise = random.Random(0), np.random.default_rng(0)
    sources = [Image.fromarray(each) for each in load_sample_images().images]
    photos = []
    for i in range(count):
        source = sources[i % 2]
        height = round(source.height * draw.uniform(0.6, 1))
        width = height * WIDTH // HEIGHT
        left, top = draw.randint(0, source.width - width), draw.randint(0, source.height - height)
        part = source.crop((left, top, left + width, top + height)).resize((WIDTH, HEIGHT))
        grainy = np.asarray(part) + noise.normal(0, 2, (HEIGHT, WIDTH, 1))
        file = io.BytesIO()
        Image.fromarray(np.clip(grainy, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        photos.append(Photo(file.getvalue(), draw_crop(draw), draw.random() < 0.5))
    return photos


def draw_crop(draw: random.Random) -> tuple[int, int, int, int]:
    """As RandomResizedCrop: 8 to 100 % of the area, sides of 3:4 to 4:3."""
    while True:
        area = WIDTH * HEIGHT * draw.uniform(0.08, 1)
        ratio = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if width <= WIDTH and height <= HEIGHT:
            return draw.randint(0, WIDTH - width), draw.randint(0, HEIGHT - height), width, height


@pytest.fixture(scope="session")
def photos(timed: bool) -> list[Photo]:
    return make_photos(200 if timed else 4)


def by_penstock() -> Callable[[Photo], Any]:
    pipeline = _core.ImagePipeline(mean=MEAN, std=STD, rule=PIL.__version__.split(".")[0])

    def load(photo: Photo) -> Any:
        capsule, _, _ = pipeline.run(
            photo.data, crop=photo.crop, resize=(SIDE, SIDE), flip_horizontally=photo.flip
        )
        return torch.from_dlpack(capsule)[0].numpy()

    return load


def by_pillow() -> Callable[[Photo], Any]:
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)

    def load(photo: Photo) -> Any:
        image: Image.Image = Image.open(io.BytesIO(photo.data)).convert("RGB")
        if photo.crop:
            left, top, width, height = photo.crop
            image = image.crop((left, top, left + width, top + height))
        image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        if photo.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = np.asarray(image, np.float32)
        return np.ascontiguousarray(((pixels / 255 - mean) / std).transpose(2, 0, 1))

    return load


def by_turbojpeg() -> Callable[[Photo], Any]:
    """Decoding alone, into memory that is used again."""
    name = ctypes.util.find_library("turbojpeg")
    if name is None:
        pytest.skip("needs libturbojpeg")
    library = ctypes.CDLL(name)
    library.tjInitDecompress.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(library.tjInitDecompress())
    out = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    rgb, accurate_dct = 0, 4096

    def load(photo: Photo) -> Any:
        size = ctypes.c_ulong(len(photo.data))
        target = ctypes.c_void_p(out.ctypes.data)
        library.tjDecompress2(handle, photo.data, size, target, WIDTH, 0, HEIGHT, rgb, accurate_dct)
        return out

    return load


def run(load: Callable[[Photo], Any], photos: list[Photo]) -> None:
    """Each sample is dropped before the next, as a loop drops its batches."""
    for photo in photos:
        load(photo)


CONTENDERS = {
    "penstock": by_penstock,
    "Pillow and numpy": by_pillow,
    "libjpeg-turbo, decoding alone": by_turbojpeg,
}


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("augmented", [False, True], ids=["resize", "random resized crop and flip"])
def bench_images(benchmark: Any, photos: list[Photo], augmented: bool, contender: str) -> None:
    load = CONTENDERS[contender]()
    given = photos if augmented else [Photo(photo.data, None, False) for photo in photos]
    benchmark.group = "images: " + ("random resized crop and flip" if augmented else "resize")
    benchmark.pedantic(run, (load, given), rounds=7, warmup_rounds=1)
    if contender != "libjpeg-turbo, decoding alone":
        np.testing.assert_array_equal(load(given[-1]), by_pillow()(given[-1]))
    if benchmark.stats:
        benchmark.extra_info["images/s"] = round(len(given) / benchmark.stats.stats.median)
