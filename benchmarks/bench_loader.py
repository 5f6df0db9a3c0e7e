"""The standard DataLoader over each dataset, shuffled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch.utils.data import DataLoader, TensorDataset

import penstock
from benchmarks import rivals
from benchmarks.workloads import Rows, Written, batches_of

WHOLE_EPOCH = 1 << 40

# name: (dataset of the written data, collate_fn, most batches)
CONTENDERS: dict[str, tuple[Callable[[Written], Any], Any, int]] = {
    "penstock.ShardDataset": (lambda data: penstock.ShardDataset(data.pattern), None, WHOLE_EPOCH),
    "penstock.TensorDataset, in RAM": (lambda data: penstock.TensorDataset(data.ram), None, WHOLE_EPOCH),
    "torch TensorDataset, in RAM": (lambda data: TensorDataset(data.ram), None, 64),
    "np.memmap, __getitems__": (lambda data: rivals.MemmapBatches(data.paths), rivals.passed_through, 256),
    "np.memmap, a row at a time": (lambda data: rivals.MemmapRows(data.paths), None, 64),
    "mmap + np.frombuffer": (lambda data: rivals.MapAndFromBuffer(data.paths), None, 64),
    "load the whole file": (lambda data: rivals.LoadWholeFile(data.paths), None, 1),
    "open each file until it fits": (lambda data: rivals.OpenEachFile(data.paths[:2]), None, 1),
}


def run(loader: Any, most: int) -> int:
    """Rows that came."""
    count = 0
    for batch in batches_of(loader, most):
        count += len(batch[0] if isinstance(batch, list) else batch)
    return count


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("name", ["512B", "150KB"])
def bench_loader(benchmark: Any, written: Callable[[str], Written], name: str, contender: str) -> None:
    data = written(name)
    make, collate_fn, most = CONTENDERS[contender]
    dataset = make(data)
    loader = DataLoader(dataset, batch_size=data.rows.batch, shuffle=True, collate_fn=collate_fn)
    benchmark.group = f"standard DataLoader, rows of {name} by {data.rows.batch} (rows differ: see rows/s)"
    rounds = 5 if most > 1 else 1
    count = benchmark.pedantic(run, (loader, most), rounds=rounds, warmup_rounds=1 if rounds > 1 else 0)
    assert count == min(len(dataset), most * data.rows.batch)
    if benchmark.stats:
        benchmark.extra_info["rows/s"] = round(count / benchmark.stats.stats.median)


def sampler_step(rows: Rows) -> Callable[[], int]:
    """What of an epoch is torch's own sampler: the same batches of row numbers, and no more."""
    nothing: Any = range(rows.total)
    sampler: Any = DataLoader(nothing, batch_size=rows.batch, shuffle=True).batch_sampler
    return lambda: sum(len(batch) for batch in sampler)


def bench_sampler_alone(benchmark: Any, written: Callable[[str], Written]) -> None:
    rows = written("512B").rows
    benchmark.group = "torch's own batch sampler, 512B"
    assert benchmark.pedantic(sampler_step(rows), rounds=5, warmup_rounds=1) == rows.total
