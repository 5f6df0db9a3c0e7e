"""A random batch out of many files, against the same batch out of one tensor in RAM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.workloads import ROWS, Written, gather_contenders

CONTENDERS = (
    "penstock gather(out=)",
    "penstock gather()",
    "torch.index_select(out=), in RAM",
    "tensor[indices], in RAM",
    "np.memmap, vectorised per file",
    "sequential copy (the limit)",
)


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("name", ROWS)
def bench_gather(benchmark: Any, written: Callable[[str], Written], name: str, contender: str) -> None:
    data = written(name)
    benchmark.group = f"gather, rows of {name}, batches of {data.rows.batch}"
    result = benchmark.pedantic(gather_contenders(data)[contender], rounds=5, warmup_rounds=1)
    if result is not None:
        assert torch.equal(result, data.ram[data.batches[-1]])
    if benchmark.stats:
        rate = len(data.batches) * data.rows.batch / benchmark.stats.stats.median
        benchmark.extra_info |= {"rows/s": round(rate), "GB/s": round(rate * data.rows.row_bytes / 1e9, 2)}
