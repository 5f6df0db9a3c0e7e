"""Batches of like length: how long their order takes, and how much of them is padding; results checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import penstock

BATCH, POOL = 64, 50
MOST_SHARE = 1 / 5  # of the padding of random batches


def lengths_of(count: int) -> Any:
    """Log-normal lengths, int64: half are over 150, a tenth over 400."""
    return np.random.default_rng(0).lognormal(5, 0.8, count).astype(np.int64)


def padding(lengths: Any, batches: Any) -> float:
    """Which part of the padded batches is padding."""
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    return 1 - int(lengths.sum()) / padded


def require_each_once(batches: Any, count: int) -> None:
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(count))


# --- by number of samples ---------------------------------------------------------------------------


def ours(lengths: Any) -> Any:
    return list(penstock.LengthBatchSampler(lengths, BATCH))


def numpy_pools(lengths: Any) -> Any:
    """Shuffle, sort inside pools of 50 batches, cut, shuffle the batches."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(lengths))
    pools = [order[i : i + POOL * BATCH] for i in range(0, len(order), POOL * BATCH)]
    order = np.concatenate([pool[np.argsort(lengths[pool])] for pool in pools])
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    rng.shuffle(batches)
    return batches


def numpy_sorted(lengths: Any) -> Any:
    """Sort, cut, shuffle the batches: they are the same in every epoch."""
    order = np.argsort(lengths, kind="stable")
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    np.random.default_rng(0).shuffle(batches)
    return batches


def transformers_grouped(lengths: Any) -> Any:
    """As transformers' `LengthGroupedSampler` does it, on a list; then cut by a loader."""
    as_list = lengths.tolist()
    order = torch.randperm(len(as_list))
    size = max(1, min(len(as_list) // (BATCH * 4), POOL)) * BATCH
    pools = [order[i : i + size].tolist() for i in range(0, len(as_list), size)]
    pools = [sorted(pool, key=lambda i: as_list[i], reverse=True) for pool in pools]
    longest = int(torch.argmax(torch.tensor([as_list[pool[0]] for pool in pools])))
    pools[0][0], pools[longest][0] = pools[longest][0], pools[0][0]
    found = [i for pool in pools for i in pool]
    return [found[i : i + BATCH] for i in range(0, len(found), BATCH)]


def random_batches(lengths: Any) -> Any:
    return list(penstock.BatchSampler(penstock.ShuffleSampler(len(lengths)), BATCH))


BY_ROWS: dict[str, Callable[[Any], Any]] = {
    "penstock.LengthBatchSampler": ours,
    "numpy: pools sorted, cut, shuffled": numpy_pools,
    "numpy: sorted, cut, shuffled": numpy_sorted,
    "as transformers LengthGroupedSampler": transformers_grouped,
    "random batches (penstock)": random_batches,
}


@pytest.mark.parametrize("contender", BY_ROWS)
def bench_length_batches(benchmark: Any, timed: bool, contender: str) -> None:
    lengths = lengths_of(1_000_000 if timed else 20_000)
    benchmark.group = f"an epoch of batches of {BATCH} of like length, {len(lengths):,} lengths"
    batches = benchmark.pedantic(BY_ROWS[contender], (lengths,), rounds=3, warmup_rounds=1)
    require_each_once(batches, len(lengths))
    assert len(batches) == -(-len(lengths) // BATCH)
    tell_padding(benchmark, contender, lengths, batches, random_batches)


# --- by number of tokens ----------------------------------------------------------------------------


def budget_of(lengths: Any) -> int:
    """Tokens of a batch: those of two of the longest, at least."""
    return max(16_384, 2 * int(lengths.max()))


def ours_by_tokens(lengths: Any) -> Any:
    return list(penstock.LengthBatchSampler(lengths, max_tokens=budget_of(lengths)))


def cut_by_tokens(lengths: Any, order: Any) -> Any:
    """A batch ends where the budget does."""
    budget = budget_of(lengths)
    batches = []
    begin = longest = 0
    for i, length in enumerate(lengths[order].tolist()):
        longest = max(longest, length)
        if longest * (i + 1 - begin) > budget:
            batches.append(order[begin:i])
            begin, longest = i, length
    return [*batches, order[begin:]]


def fairseq_by_tokens(lengths: Any) -> Any:
    """As fairseq's `batch_by_size` does it, in Python: the same batches in every epoch, shuffled."""
    batches = cut_by_tokens(lengths, np.argsort(lengths, kind="stable"))
    np.random.default_rng(0).shuffle(batches)
    return batches


def random_by_tokens(lengths: Any) -> Any:
    return cut_by_tokens(lengths, penstock._core.Permutation(len(lengths), 0, 0).take(0, len(lengths)))


BY_TOKENS: dict[str, Callable[[Any], Any]] = {
    "penstock.LengthBatchSampler": ours_by_tokens,
    "as fairseq batch_by_size, in Python": fairseq_by_tokens,
    "random batches, in Python": random_by_tokens,
}


@pytest.mark.parametrize("contender", BY_TOKENS)
def bench_token_batches(benchmark: Any, timed: bool, contender: str) -> None:
    lengths = lengths_of(1_000_000 if timed else 20_000)
    budget = budget_of(lengths)
    benchmark.group = f"an epoch of batches of {budget:,} tokens of like length, {len(lengths):,} lengths"
    batches = benchmark.pedantic(BY_TOKENS[contender], (lengths,), rounds=3, warmup_rounds=1)
    require_each_once(batches, len(lengths))
    assert all(len(batch) * lengths[batch].max() <= budget for batch in batches)
    tell_padding(benchmark, contender, lengths, batches, random_by_tokens)


def tell_padding(benchmark: Any, contender: str, lengths: Any, batches: Any, at_random: Any) -> None:
    """Print the share of padding and note it; ours is a fifth of that of random batches at most."""
    found = padding(lengths, batches)
    share = found / padding(lengths, at_random(lengths))
    benchmark.extra_info.update(batches=len(batches), padding=round(found, 4), of_random=round(share, 3))
    print(
        f"{contender}: {len(batches):,} batches, {found:.1%} padding, {share:.2f} of that of random batches"
    )
    if contender == "penstock.LengthBatchSampler":
        assert share <= MOST_SHARE


# --- ten million ------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["made", "first batch of an epoch", "an epoch"])
def bench_many_lengths(benchmark: Any, timed: bool, step: str) -> None:
    lengths = lengths_of(10_000_000 if timed else 64_000)
    benchmark.group = f"LengthBatchSampler, {len(lengths):,} lengths, batches of {BATCH}"
    made = penstock.LengthBatchSampler(lengths, BATCH)
    steps: dict[str, Callable[[], int]] = {
        "made": lambda: len(penstock.LengthBatchSampler(lengths, BATCH)) * BATCH,
        "first batch of an epoch": lambda: len(next(iter(made))),
        "an epoch": lambda: sum(map(len, made)),
    }
    found = benchmark.pedantic(steps[step], rounds=3, warmup_rounds=1)
    assert found == (BATCH if step == "first batch of an epoch" else len(lengths))
