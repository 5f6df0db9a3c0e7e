"""What penstock.transforms make of an image, with the random numbers that the core would draw."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from penstock import transforms as T

transforms = importlib.import_module("penstock.transforms")

MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15


def mixed(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def derived(key: int, number: int) -> int:
    return mixed(mixed((key + GAMMA) & MASK) ^ number)


class Draws:
    """Stands in for torch's random numbers in penstock.transforms."""

    def __init__(self, key: int, row: int) -> None:
        self.key = derived(key, row)
        self.next = 0

    def draw(self) -> int:
        self.next += 1
        return mixed((self.key + self.next * GAMMA) & MASK)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * ((self.draw() >> 11) * 2.0**-53)

    def upto(self, most: int) -> int:
        return (self.draw() * (most + 1)) >> 64


def steps_of(transform: Any) -> int:
    """How many steps the core makes of a transform."""
    if isinstance(transform, T.RandomCrop):
        return 2 if transform.padding is not None else 1
    plain = (T.Grayscale, T.PILToTensor, T.ToTensor, T.ToDtype, T.Normalize)
    return 0 if isinstance(transform, plain) else 1


def channels_of(transform: Any) -> int:
    grays = [each for each in transform.transforms if isinstance(each, T.Grayscale)]
    return grays[0].num_output_channels if grays else 3


def reference(transform: Any, image: Any, key: int, row: int) -> Any:
    """One sample: the transform in Python, with the numbers that the core would draw."""
    draws, steps = Draws(key, row), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transforms, "_uniform", draws.uniform)
        patch.setattr(transforms, "_upto", draws.upto)
        for each in transform.transforms:
            if (
                isinstance(each, T.RandomGrayscale)
                and getattr(image, "mode", "") == "L"
                and channels_of(transform) == 1
            ):
                continue
            steps += steps_of(each)
            draws.next = 64 * (steps - 1) + isinstance(each, T.ColorJitter)  # which has a probability, of 1
            image = each(image)
    return image
