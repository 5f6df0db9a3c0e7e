"""Orders of samples: by class, shuffled, weighted, resumed; each result checked."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_metric_learning.samplers import MPerClassSampler
from torch.utils.data import BatchSampler, RandomSampler

import penstock

CLASSES = 1000
PER_CLASS, BATCH = 4, 128


def labels_of(count: int) -> Any:
    """Random class labels, int64."""
    return np.random.default_rng(0).integers(0, CLASSES, count)


# --- class index ------------------------------------------------------------------------------------


def by_argsort(labels: Any) -> list[Any]:
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.cumsum(np.bincount(labels, minlength=CLASSES))[:-1])


def by_defaultdict(labels: Any) -> list[Any]:
    found: list[list[int]] = [[] for _ in range(CLASSES)]
    for i, label in enumerate(labels.tolist()):
        found[label].append(i)
    return found


INDEXES: dict[str, Callable[[Any], list[Any]]] = {
    "penstock.ClassIndex": lambda labels: list(penstock.ClassIndex(labels).values()),
    "np.argsort(stable), np.split": by_argsort,
    "a list per class, one loop": by_defaultdict,
}


@pytest.mark.parametrize("contender", INDEXES)
def bench_class_index(benchmark: Any, timed: bool, contender: str) -> None:
    labels = labels_of(1_000_000 if timed else 20_000)
    benchmark.group = f"class index, {len(labels):,} labels, {CLASSES} classes"
    found = benchmark.pedantic(INDEXES[contender], (labels,), rounds=7, warmup_rounds=1)
    assert all(np.array_equal(a, b) for a, b in zip(found, by_argsort(labels), strict=True))


@pytest.mark.parametrize("contender", ["[i for i, l in enumerate(list) if l == c]", "the same over a tensor"])
def bench_one_class_by_comprehension(benchmark: Any, timed: bool, contender: str) -> None:
    labels = labels_of(100_000 if timed else 2_000)
    benchmark.group = f"one class of {CLASSES} out of {len(labels):,} labels (times 10,000 for a million)"
    values = torch.from_numpy(labels) if "tensor" in contender else labels.tolist()
    found = benchmark.pedantic(lambda: [i for i, label in enumerate(values) if label == 7], rounds=3)
    assert np.array_equal(found, np.flatnonzero(labels == 7))


# --- shuffled batches -------------------------------------------------------------------------------


def numpy_batches(count: int) -> Any:
    order = np.random.default_rng(0).permutation(count)
    return (order[i : i + 1024] for i in range(0, count, 1024))


SHUFFLES: dict[str, Callable[[int], Any]] = {
    "penstock BatchSampler(ShuffleSampler)": lambda n: penstock.BatchSampler(
        penstock.ShuffleSampler(n), 1024
    ),
    "torch BatchSampler(penstock ShuffleSampler)": lambda n: BatchSampler(
        penstock.ShuffleSampler(n), 1024, False
    ),
    "torch BatchSampler(RandomSampler)": lambda n: BatchSampler(RandomSampler(range(n)), 1024, False),
    "np.random.permutation, slices": numpy_batches,
}


def walk(batches: Any) -> tuple[int, int]:
    """How many samples, and one of the last batch."""
    count = 0
    for batch in batches:
        count += len(batch)
    return count, int(batch[-1])


@pytest.mark.parametrize("contender", SHUFFLES)
def bench_shuffled_batches(benchmark: Any, timed: bool, contender: str) -> None:
    samples = 10_000_000 if timed else 10_000
    benchmark.group = f"an epoch of shuffled batches of 1,024, {samples:,} samples"
    count, last = benchmark.pedantic(lambda: walk(SHUFFLES[contender](samples)), rounds=3, warmup_rounds=1)
    assert count == samples
    assert 0 <= last < samples


FIRST = {
    "penstock, 1,000,000,000 samples": (SHUFFLES["penstock BatchSampler(ShuffleSampler)"], 10**9),
    "penstock, 1,000,000,000,000 samples": (SHUFFLES["penstock BatchSampler(ShuffleSampler)"], 10**12),
    "torch, 10,000,000 samples": (SHUFFLES["torch BatchSampler(RandomSampler)"], 10**7),
}


@pytest.mark.parametrize("contender", FIRST)
def bench_first_batch(benchmark: Any, timed: bool, contender: str) -> None:
    make, samples = FIRST[contender]
    if "torch" in contender and not timed:
        samples = 10**4
    benchmark.group = "first batch of a shuffle"
    first = benchmark.pedantic(lambda: next(iter(make(samples))), rounds=5, warmup_rounds=1)
    assert len(set(map(int, first))) == 1024


def resumed(samples: int, position: int) -> Any:
    sampler = penstock.ShuffleSampler(samples)
    sampler.load_state_dict({**sampler.state_dict(), "position": position})
    return next(iter(penstock.BatchSampler(sampler, 1024)))


def skipped_to(samples: int, position: int) -> Any:
    return next(islice(SHUFFLES["torch BatchSampler(RandomSampler)"](samples), position // 1024, None))


RESUMES = {
    "penstock, 1,000,000,000 samples": (resumed, 10**9),
    "torch, 10,000,000 samples, batches skipped": (skipped_to, 10**7),
}


@pytest.mark.parametrize("contender", RESUMES)
def bench_resume(benchmark: Any, timed: bool, contender: str) -> None:
    step, samples = RESUMES[contender]
    if "torch" in contender and not timed:
        samples = 10**4
    position = samples // 2
    benchmark.group = "resume in the middle of an epoch, to the first batch"
    batch = benchmark.pedantic(step, (samples, position), rounds=5, warmup_rounds=1)
    assert len(batch) == 1024
    if step is resumed:
        assert np.array_equal(batch, penstock._core.Permutation(samples, 0, 0).take(position, 1024))


# --- batches by class -------------------------------------------------------------------------------


def ours_balanced(labels: Any) -> Any:
    batches = list(penstock.BalancedBatchSampler(labels, BATCH // PER_CLASS, PER_CLASS))
    return np.concatenate(batches)


def pml_balanced(labels: Any) -> Any:
    sampler = MPerClassSampler(labels, PER_CLASS, BATCH, length_before_new_iter=len(labels) // BATCH * BATCH)
    return np.fromiter(sampler, np.int64)


def numpy_balanced(labels: Any) -> Any:
    """With replacement, the whole epoch at once."""
    rng = np.random.default_rng(0)
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    first = np.cumsum(counts) - counts
    shape = len(labels) // BATCH, BATCH // PER_CLASS
    classes = np.argsort(rng.random((shape[0], CLASSES)), axis=1)[:, : shape[1]]
    inside = rng.random((*shape, PER_CLASS)) * counts[classes][..., None]
    return order[first[classes][..., None] + inside.astype(np.int64)].ravel()


BALANCED = {
    "penstock.BalancedBatchSampler": ours_balanced,
    "pytorch-metric-learning MPerClassSampler": pml_balanced,
    "numpy, by hand": numpy_balanced,
}


@pytest.mark.parametrize("contender", BALANCED)
def bench_balanced(benchmark: Any, timed: bool, contender: str) -> None:
    labels = labels_of(1_000_000 if timed else 20_000)
    benchmark.group = f"an epoch of batches of 32 classes x 4, {len(labels):,} labels, {CLASSES} classes"
    rounds = 3 if "penstock" in contender else 1
    samples = benchmark.pedantic(BALANCED[contender], (labels,), rounds=rounds, warmup_rounds=rounds - 1)
    classes = np.sort(labels[samples.reshape(-1, BATCH)], axis=1)[:, ::PER_CLASS]
    assert len(samples) == len(labels) // BATCH * BATCH
    assert (np.diff(classes, axis=1) > 0).all(), "32 different classes a batch"


# --- weighted ---------------------------------------------------------------------------------------


def weighted_steps(weights: Any, draws: int) -> dict[str, Callable[[], Any]]:
    """name: one draw of so many."""
    sampler = penstock.WeightedSampler(weights, draws)
    batches = penstock.BatchSampler(sampler, 8192)
    next(iter(sampler))  # builds the table
    tensor = torch.from_numpy(weights)
    rng = np.random.default_rng(0)
    return {
        "penstock.WeightedSampler": lambda: np.concatenate(list(batches)),
        "penstock.WeightedSampler, made anew": lambda: np.concatenate(
            list(penstock.BatchSampler(penstock.WeightedSampler(weights, draws), 8192))
        ),
        "torch.multinomial": lambda: torch.multinomial(tensor, draws, replacement=True).numpy(),
        "numpy choice(p=)": lambda: rng.choice(len(weights), draws, p=weights / weights.sum()),
        "numpy cumsum, searchsorted": lambda: np.searchsorted(
            np.cumsum(weights), rng.random(draws) * weights.sum()
        ),
    }


WEIGHTED = (
    "penstock.WeightedSampler",
    "penstock.WeightedSampler, made anew",
    "torch.multinomial",
    "numpy choice(p=)",
    "numpy cumsum, searchsorted",
)


@pytest.mark.parametrize("contender", WEIGHTED)
def bench_weighted(benchmark: Any, timed: bool, contender: str) -> None:
    weights = np.random.default_rng(0).random(10_000_000 if timed else 10_000)
    draws = 1_000_000 if timed else 5_000
    benchmark.group = f"{draws:,} weighted draws out of {len(weights):,}"
    drawn = benchmark.pedantic(weighted_steps(weights, draws)[contender], rounds=3, warmup_rounds=1)
    assert len(drawn) == draws
    mean_weight = np.sum(weights**2) / np.sum(weights)
    assert abs(weights[drawn].mean() - mean_weight) < 0.02


# --- block shuffle ----------------------------------------------------------------------------------


def mixing(order: Any, samples: int, batch: int = 1024) -> float:
    """Variance of batch means of the sample number, over that of random batches: 1 is a full shuffle."""
    means = order[: samples // batch * batch].reshape(-1, batch).mean(axis=1)
    return float(np.var(means) / (samples**2 / 12 / batch))


@pytest.mark.parametrize("blocks", ["full", 256, 64, 16, 1])
def bench_block_shuffle(benchmark: Any, timed: bool, blocks: Any) -> None:
    samples = 10_000_000 if timed else 100_000
    window = samples // 10
    benchmark.group = f"a shuffle of {samples:,} samples, windows of a tenth of them, by blocks in a window"
    if blocks == "full":
        order: Any = penstock._core.Permutation(samples, 0, 0)
    else:
        order = penstock._core.BlockOrder(np.array([samples]), window // blocks, window, 0, 0)
    taken = benchmark.pedantic(order.take, (0, samples), rounds=3, warmup_rounds=1)
    assert np.array_equal(np.sort(taken), np.arange(samples))
    benchmark.extra_info["mixing"] = round(mixing(taken, samples), 2)
