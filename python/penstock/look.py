"""Folders of images, for people to look at: a sheet of one batch, and what there is."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from rich.bar import Bar
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from penstock import transforms
from penstock.datasets import ImageFolder
from penstock.loader import DataLoader

__all__ = ["ImagesFound", "contact_sheet", "images_found", "sheet_of"]

_CAPTION = 14  # pixels
_GAP = 4


def contact_sheet(
    root: str | os.PathLike[str], *, size: int = 224, count: int = 24, augment: bool = False, seed: int = 0
) -> Image.Image:
    """One shuffled batch of a folder that has a folder for each class, as a network will see it, with names.

    Args:
        root: As for `ImageFolder`.
        size: Width and height of each image, in pixels. Default: 224.
        count: How many. Default: 24.
        augment: Cut out and flip at random, as in training, instead of from the middle. Default: False.
        seed: Of the order and of what is random. Default: 0.

    Raises:
        MissingFileError, FormatError, ShardError: As `ImageFolder`. Broken images are replaced by others.
    """
    middle = [transforms.Resize(size), transforms.CenterCrop(size)]
    random = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    steps = transforms.Compose([*(random if augment else middle), transforms.PILToTensor()])
    dataset = ImageFolder(root, steps, on_error="replace", seed=seed)
    images, labels = next(iter(DataLoader(dataset, count, shuffle=True, seed=seed)))
    return sheet_of(images, [dataset.classes[label] for label in labels.tolist()])


def sheet_of(images: Tensor, names: list[str]) -> Image.Image:
    """Pictures of shape (batch, channels, height, width), uint8, in rows, with a name under each."""
    height, width = images.shape[2] + _CAPTION + _GAP, images.shape[3] + _GAP
    columns = math.ceil(math.sqrt(1.5 * len(names)))
    rows = math.ceil(len(names) / columns)
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (pixels, name) in enumerate(zip(images, names, strict=True)):
        left, top = _GAP + k % columns * width, _GAP + k // columns * height
        sheet.paste(Image.fromarray(pixels.permute(1, 2, 0).numpy()), (left, top))
        draw.text((left, top + images.shape[2]), name, fill="black")
    return sheet


@dataclass(frozen=True)
class ImagesFound:
    """What a folder with a folder for each class holds.

    Attributes:
        counts: Images of each class, by its name, sorted.
        sizes: Width and height of every image whose header can be read, shape (images, 2), int64.
        broken: Path and reason of the others.
    """

    counts: dict[str, int]
    sizes: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    broken: list[tuple[str, str]]

    def tables(self) -> list[Table]:
        """One: the classes, with a bar for each."""
        table = Table("class", "images", "", box=None)
        most = max(self.counts.values(), default=1)
        for name, count in self.counts.items():
            table.add_row(escape(name), f"{count:,}", Bar(max(most, 1), 0, count, width=40))
        return [table]

    def summary(self) -> str:
        """In a sentence."""
        total, classes = sum(self.counts.values()), len(self.counts)
        text = f"{total:,} images in {classes} classes"
        if len(self.sizes):
            smallest, largest = (" x ".join(map(str, size)) for size in self.sizes[[0, -1]])
            text += f" of {smallest} to {largest} pixels"
        return text + (f"; {len(self.broken)} cannot be read" if self.broken else "")


def images_found(root: str | os.PathLike[str]) -> ImagesFound:
    """Look at every header, by all threads.

    Raises:
        MissingFileError: As `ImageFolder`.
    """
    dataset = ImageFolder(root, allow_empty=True)
    sizes, failures = dataset.header_sizes()
    per_class = np.bincount(dataset.targets, minlength=len(dataset.classes))
    order = np.argsort(sizes.prod(axis=1), kind="stable")
    counts = {name: int(count) for name, count in zip(dataset.classes, per_class, strict=True)}
    return ImagesFound(counts, sizes[order], failures)
