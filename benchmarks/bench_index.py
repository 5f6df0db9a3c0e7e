"""Which shard holds a row."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np
import pytest

from penstock import _core

SHARDS = {"64 shards": 64, "100,000 shards": 100_000}


def _lengths(shards: int, even: bool) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.full(shards, 1000) if even else rng.integers(1, 2000, shards)


@pytest.mark.parametrize("contender", ["penstock", "np.searchsorted", "bisect"])
@pytest.mark.parametrize("even", [True, False], ids=["even", "uneven"])
@pytest.mark.parametrize("shards", SHARDS)
def bench_locate(benchmark: Any, timed: bool, shards: str, even: bool, contender: str) -> None:
    lengths = _lengths(SHARDS[shards], even)
    ends = np.cumsum(lengths)
    rows = np.random.default_rng(1).integers(0, ends[-1], 100_000 if timed else 1000)
    benchmark.group = f"index lookup, {shards}, {'even' if even else 'uneven'}"
    index, ends_list, rows_list = _core.CumulativeIndex(lengths), ends.tolist(), rows.tolist()
    work = {
        "penstock": lambda: index.locate(rows)[0],
        "np.searchsorted": lambda: np.searchsorted(ends, rows, side="right"),
        "bisect": lambda: [bisect_right(ends_list, row) for row in rows_list],
    }[contender]
    result = benchmark.pedantic(work, rounds=20, warmup_rounds=1)
    np.testing.assert_array_equal(result, np.searchsorted(ends, rows, side="right"))
