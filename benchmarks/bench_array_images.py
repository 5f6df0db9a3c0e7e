"""Images of 150 KB in `.npy` files, (3, 224, 224) or (224, 224, 3), uint8: augmented float32 batches.

A random crop of 200 x 200, a random flip, cast, normalisation: while the rows are gathered, or by torch from
the gathered batch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import penstock
from penstock import _core
from penstock import transforms as T

SIDE, PART = 224, 200
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
MEANS, STDS = (torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD))
TRANSFORM = T.Compose(
    [
        T.RandomCrop(PART),
        T.RandomHorizontalFlip(),
        T.ToDtype(torch.float32, scale=True),
        T.Normalize(MEAN, STD),
    ]
)
Draws = list[tuple[int, int, bool]]
"""Left, top and whether it is flipped, of each sample."""
Batch = Callable[[Any, Draws], Tensor]

_STEP = (0, (0, 0, 0, 0), False, (0.0, 1.0), (1.0, 1.0))
_NO_COLORS = ((1, 1), (1, 1), (1, 1), (0, 0))
STEPS = _core.ImageSteps(
    [
        ("random crop", (PART, PART), *_STEP, 0.0, _NO_COLORS),
        ("flip horizontally", (0, 0), *_STEP, 0.5, _NO_COLORS),
    ]
)


@pytest.fixture(scope="module", params=["CHW", "HWC"])
def folder(request: Any, tmp_path_factory: Any, timed: bool) -> Path:
    """Eight files of images, channels first or last."""
    folder: Path = tmp_path_factory.mktemp(f"images_{request.param}")
    shape = (3, SIDE, SIDE) if request.param == "CHW" else (SIDE, SIDE, 3)
    random = np.random.default_rng(0)
    for shard in range(8):
        rows = random.integers(0, 256, (512 if timed else 2, *shape), dtype=np.uint8)
        np.save(folder / f"{shard}.npy", rows)
    return folder


@pytest.fixture(params=[1, 2])
def threads(request: Any, one_thread: None) -> int:
    """Of the core and of torch."""
    penstock.set_num_threads(request.param)
    torch.set_num_threads(request.param)
    return int(request.param)


def by_penstock(folder: Path, key: int) -> Batch:
    table = penstock.ShardDataset(folder, transform=TRANSFORM).table.in_epoch(key)

    def load(rows: Any, _: Draws) -> Tensor:
        return table.gather(rows)[0]

    return load


def channels_first(batch: Tensor) -> Tensor:
    return batch if batch.shape[1] == 3 else batch.permute(0, 3, 1, 2)


def cut_into(out: Tensor, batch: Tensor, draws: Draws) -> Tensor:
    for to, image, (left, top, is_flipped) in zip(out, channels_first(batch), draws, strict=True):
        part = image[:, top : top + PART, left : left + PART]
        to.copy_(part.flip(-1) if is_flipped else part)
    return out


def by_torch(folder: Path, key: int) -> Batch:
    """Cut, then cast and normalise the batch."""
    dataset = penstock.ShardDataset(folder)

    def load(rows: Any, draws: Draws) -> Tensor:
        pixels = torch.empty(len(rows), 3, PART, PART, dtype=torch.uint8)
        parts = cut_into(pixels, dataset.gather(rows), draws)
        return parts.to(torch.float32).div_(255).sub_(MEANS).div_(STDS)

    return load


def by_folded_torch(folder: Path, key: int) -> Batch:
    """Cast while it is cut, normalise by one product and one sum, always in the same memory."""
    dataset = penstock.ShardDataset(folder)
    factor, shift = 1 / (255 * STDS), -MEANS / STDS
    out = torch.empty(0)

    def load(rows: Any, draws: Draws) -> Tensor:
        nonlocal out
        if len(out) != len(rows):
            out = torch.empty(len(rows), 3, PART, PART)
        return cut_into(out, dataset.gather(rows), draws).mul_(factor).add_(shift)

    return load


CONTENDERS = {
    "penstock, fused": by_penstock,
    "gather, then torch": by_torch,
    "gather, then torch, folded, memory used again": by_folded_torch,
}


def draws_of(rows: Any, key: int) -> Draws:
    """What the core draws for these rows."""
    draws = []
    for row in rows:
        _, _, _, (left, top, _, _), is_flipped, *_ = STEPS.plan(SIDE, SIDE, key, int(row))
        draws.append((left, top, is_flipped))
    return draws


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("batch_size", [64, 256])
def bench_array_images(
    benchmark: Any, folder: Path, threads: int, batch_size: int, contender: str, timed: bool
) -> None:
    batch_size = batch_size if timed else 4
    load = CONTENDERS[contender](folder, 7)
    total = len(penstock.ShardDataset(folder))
    picks = np.random.default_rng(1).permutation(total)[: 512 if timed else 8]
    work = [(rows, draws_of(rows, 7)) for rows in np.split(picks, len(picks) // batch_size)]
    layout = folder.name.removeprefix("images_")[:3]
    benchmark.group = f"array images: {layout}, batches of {batch_size}, {threads} threads"

    def run() -> None:
        for rows, draws in work:
            load(rows, draws)

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    rows, draws = work[-1]
    expected = by_torch(folder, 7)(rows, draws)
    torch.testing.assert_close(load(rows, draws), expected, rtol=1e-5, atol=1e-6)
    if contender == "penstock, fused":
        assert torch.equal(load(rows, draws), expected)
    if benchmark.stats:
        seconds = benchmark.stats.stats.median
        benchmark.extra_info["samples/s"] = round(len(picks) / seconds)
        benchmark.extra_info["GB/s out"] = round(len(picks) * 4 * 3 * PART * PART / seconds / 1e9, 2)
