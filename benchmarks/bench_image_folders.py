"""A folder of JPEGs as batches of float32, against Pillow with numpy and torchvision's ImageFolder."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import penstock
from penstock import _core, transforms

FILES, BATCH, SIDE = 2_000, 64, 224
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None

pytestmark = pytest.mark.skipif(
    not (_core.BUILD["jpeg"] and _core.BUILD["png"]), reason="needs a build with libjpeg-turbo and libspng"
)


def write_jpegs(folder: Path, files: int = FILES) -> Path:
    """JPEGs of about 500 x 375 at quality 90, as much detail in them as in photographs: some 60 KB each."""
    rng = np.random.default_rng(0)
    for number in range(files):
        width, height = (int(side) for side in rng.normal((500, 375), (40, 30)).clip(240, 600))
        smooth = rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
        pixels = np.asarray(Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC))
        noise = rng.normal(0, 6, (height, width, 3))
        path = folder / f"class_{number % 10}" / f"{number:05}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return folder


@pytest.fixture(scope="session")
def jpegs(timed: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jpegs")
    return write_jpegs(folder, FILES if timed else 20)


def training(library: Any) -> Any:
    """The usual pipeline for training, of penstock.transforms or torchvision.transforms."""
    return library.Compose(
        [
            library.RandomResizedCrop(SIDE),
            library.RandomHorizontalFlip(),
            library.ToTensor(),
            library.Normalize(MEAN, STD),
        ]
    )


def testing(library: Any) -> Any:
    """A whole image of one size, normalised."""
    parts = [library.Resize((SIDE, SIDE)), library.ToTensor(), library.Normalize(MEAN, STD)]
    return library.Compose(parts)


PIPELINES = {"RandomResizedCrop, flip, Normalize": training, "Resize, Normalize": testing}


class ByHand(Dataset[tuple[Tensor, int]]):
    """Pillow and numpy, as people write it."""

    def __init__(self, folder: Path, is_training: bool) -> None:
        self.samples = penstock.ImageFolder(folder, testing(transforms)).samples
        self.crop = transforms.RandomResizedCrop(SIDE)
        self.is_training = is_training
        self.mean, self.std = (np.array(each, np.float32) for each in (MEAN, STD))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, target = self.samples[index]
        with Image.open(path) as file:
            image = file.convert("RGB")
        if self.is_training:
            x, y, width, height = self.crop._part(*image.size)
            image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (x, y, x + width, y + height))
            if np.random.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        else:
            image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        pixels = np.asarray(image).astype(np.float32) / 255
        return torch.from_numpy(((pixels - self.mean) / self.std).transpose(2, 0, 1).copy()), target


def epoch(loader: Any) -> Callable[[], int]:
    """A pass: how many images came."""
    return lambda: sum(len(images) for images, _ in loader)


def loaders(folder: Path, pipeline: str, workers: Sequence[int]) -> dict[str, Any]:
    """Contenders by name."""
    make = PIPELINES[pipeline]
    ours = penstock.ImageFolder(folder, make(transforms))
    by_hand = ByHand(folder, make is training)
    found: dict[str, Any] = {
        "penstock.DataLoader": penstock.DataLoader(ours, BATCH, shuffle=True, seed=0),
        "penstock.DataLoader, fast": penstock.DataLoader(
            penstock.ImageFolder(folder, make(transforms), decode="fast"), BATCH, shuffle=True, seed=0
        ),
        "DataLoader over penstock.ImageFolder": DataLoader(ours, BATCH, shuffle=True),
    }
    for number in workers:
        found[f"Pillow and numpy, {number} workers"] = DataLoader(
            by_hand, BATCH, shuffle=True, num_workers=number
        )
        if HAS_TORCHVISION:
            import torchvision  # type: ignore[import-not-found, unused-ignore]

            theirs = torchvision.datasets.ImageFolder(folder, make(torchvision.transforms))
            found[f"torchvision, {number} workers"] = DataLoader(
                theirs, BATCH, shuffle=True, num_workers=number
            )
    return found


CONTENDERS = (
    "penstock.DataLoader",
    "penstock.DataLoader, fast",
    "DataLoader over penstock.ImageFolder",
    "Pillow and numpy, 0 workers",
)


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("contender", CONTENDERS)
def bench_load_images(benchmark: Any, jpegs: Path, pipeline: str, contender: str) -> None:
    benchmark.group = f"JPEGs of 500 x 375: {pipeline}, {BATCH} x {SIDE} x {SIDE} float32"
    loader = loaders(jpegs, pipeline, [0])[contender]
    images = benchmark.pedantic(epoch(loader), rounds=3, warmup_rounds=1)
    assert images == len(loader.dataset)
    if benchmark.stats:
        benchmark.extra_info["images/s"] = round(images / benchmark.stats.stats.median)


# images of different sizes ---------------------------------------------------------------------------------


class Whole(Dataset[tuple[Tensor, int]]):
    """Whole images as float32, by Pillow and numpy."""

    def __init__(self, folder: Path) -> None:
        self.samples = penstock.ImageFolder(folder, testing(transforms)).samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, target = self.samples[index]
        with Image.open(path) as file:
            pixels = np.asarray(file.convert("RGB")).transpose(2, 0, 1).astype(np.float32) / 255
        return torch.from_numpy(pixels), target


def padded_by_hand(samples: Sequence[tuple[Tensor, int]]) -> list[Tensor]:
    """Images in the upper left corner of zeros, their heights and widths, and the targets."""
    sizes = torch.tensor([image.shape[1:] for image, _ in samples])
    height, width = sizes.amax(0).tolist()
    batch = torch.zeros(len(samples), 3, height, width)
    for place, (image, _) in zip(batch, samples, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return [batch, sizes, torch.tensor([target for _, target in samples])]


def padded_loaders(folder: Path, workers: Sequence[int]) -> dict[str, Any]:
    """Contenders by name, all in the same order."""
    ours = penstock.ImageFolder(folder, transforms.ToTensor())
    found: dict[str, Any] = {
        "penstock.DataLoader": penstock.DataLoader(ours, BATCH),
        "DataLoader over penstock.ImageFolder": DataLoader(ours, BATCH, collate_fn=penstock.collate),
    }
    for number in workers:
        found[f"Pillow and numpy, {number} workers"] = DataLoader(
            Whole(folder), BATCH, collate_fn=padded_by_hand, num_workers=number
        )
    return found


PADDED_CONTENDERS = (*CONTENDERS[::2], CONTENDERS[3])


@pytest.mark.parametrize("contender", PADDED_CONTENDERS)
def bench_load_padded_images(benchmark: Any, jpegs: Path, contender: str) -> None:
    benchmark.group = f"JPEGs of 500 x 375 or so: ToTensor, batches of {BATCH} padded, float32"
    loader = padded_loaders(jpegs, [0])[contender]
    images = benchmark.pedantic(lambda: sum(len(batch[0]) for batch in loader), rounds=3, warmup_rounds=1)
    assert images == len(loader.dataset)
    by_hand = padded_loaders(jpegs, [0])["Pillow and numpy, 0 workers"]
    for got, expected in zip(next(iter(loader)), next(iter(by_hand)), strict=True):
        assert torch.equal(got, expected)
    if benchmark.stats:
        benchmark.extra_info["images/s"] = round(images / benchmark.stats.stats.median)
