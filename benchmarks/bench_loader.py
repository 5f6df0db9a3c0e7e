"""The standard DataLoader over each dataset, shuffled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
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
    size = 8 if most == 1 and benchmark.disabled else data.rows.batch  # a minute each, else
    loader = DataLoader(dataset, batch_size=size, shuffle=True, collate_fn=collate_fn)
    benchmark.group = f"standard DataLoader, rows of {name} by {data.rows.batch} (rows differ: see rows/s)"
    rounds = 5 if most > 1 else 1
    count = benchmark.pedantic(run, (loader, most), rounds=rounds, warmup_rounds=1 if rounds > 1 else 0)
    assert count == min(len(dataset), most * size)
    if benchmark.stats:
        benchmark.extra_info["rows/s"] = round(count / benchmark.stats.stats.median)


def ahead_steps(data: Written, threads: int) -> dict[str, Callable[[], int]]:
    """name: one epoch, with so many threads where it says so; each loads the same number of rows."""
    rows = data.rows
    ours = penstock.ShardDataset(data.pattern)
    by_hand = rivals.MemmapBatches(data.paths)
    order = penstock.ShuffleSampler(ours)
    ahead = penstock.BatchSampler(order, rows.batch, lookahead=8)
    out = torch.empty_like(data.ram[: rows.batch])

    def selected(torch_threads: int) -> int:
        torch.set_num_threads(torch_threads)
        for batch in data.batches:
            torch.index_select(data.ram, 0, batch, out=out)
        torch.set_num_threads(1)
        return len(data.batches) * rows.batch

    def epoch(loader: Any, our_threads: int) -> int:
        before = penstock.get_num_threads()
        penstock.set_num_threads(our_threads)
        count = run(loader, WHOLE_EPOCH)
        penstock.set_num_threads(before)
        return count

    loader = penstock.DataLoader(ours, rows.batch, shuffle=True, seed=0)
    inside = DataLoader(ours, batch_sampler=ahead, collate_fn=penstock.collate)
    stock = [
        DataLoader(by_hand, rows.batch, shuffle=True, collate_fn=rivals.passed_through, num_workers=workers)
        for workers in (0, 2)
    ]
    return {
        f"penstock.DataLoader, {threads} threads": lambda: epoch(loader, threads),
        "penstock.DataLoader, 1 thread": lambda: epoch(loader, 1),
        "torch DataLoader, BatchSampler(lookahead=8), 1 thread": lambda: epoch(inside, 1),
        "torch.index_select(out=) in RAM, no loader, 1 thread": lambda: selected(1),
        f"torch.index_select(out=) in RAM, no loader, {threads} threads": lambda: selected(threads),
        "torch DataLoader, np.memmap by hand": lambda: run(stock[0], WHOLE_EPOCH),
        "torch DataLoader, np.memmap by hand, 2 workers": lambda: run(stock[1], WHOLE_EPOCH),
    }


@pytest.mark.parametrize("contender", range(7))
@pytest.mark.parametrize("name", ["512B", "150KB"])
def bench_ahead(benchmark: Any, written: Callable[[str], Written], name: str, contender: int) -> None:
    data = written(name)
    label, step = list(ahead_steps(data, 2).items())[contender]
    benchmark.group = f"an epoch ahead of time, rows of {name} by {data.rows.batch}"
    benchmark.name = label
    assert benchmark.pedantic(step, rounds=3, warmup_rounds=1) == data.rows.total


SMALL = {
    "penstock.DataLoader": penstock.DataLoader,
    "torch DataLoader": DataLoader,
}


@pytest.mark.parametrize("contender", SMALL)
def bench_small_batches(benchmark: Any, timed: bool, contender: str) -> None:
    rows = torch.arange(16 * (10_000 if timed else 10) * 10.0).view(-1, 10)
    loader = SMALL[contender](penstock.TensorDataset(rows), 16)
    benchmark.group = f"an epoch of {len(loader):,} batches of 16 rows of 40 B"
    assert benchmark.pedantic(lambda: run(loader, WHOLE_EPOCH), rounds=5, warmup_rounds=1) == len(rows)


FIRST = {
    "penstock.DataLoader": {},
    "torch DataLoader": {"num_workers": 0},
    "torch DataLoader, 2 workers": {"num_workers": 2},
}


@pytest.mark.parametrize("contender", FIRST)
def bench_first_batch_of_a_loader(benchmark: Any, written: Callable[[str], Written], contender: str) -> None:
    data = written("512B")
    dataset = penstock.ShardDataset(data.pattern)
    make: Any = penstock.DataLoader if contender.startswith("penstock") else DataLoader

    def first() -> Any:
        return next(iter(make(dataset, data.rows.batch, shuffle=True, **FIRST[contender])))

    benchmark.group = "first batch, from the making of the loader, 512B by 1024"
    assert len(benchmark.pedantic(first, rounds=5, warmup_rounds=1)) == data.rows.batch


def sampler_step(rows: Rows) -> Callable[[], int]:
    """What of an epoch is torch's own sampler: the same batches of row numbers, and no more."""
    nothing: Any = range(rows.total)
    sampler: Any = DataLoader(nothing, batch_size=rows.batch, shuffle=True).batch_sampler
    return lambda: sum(len(batch) for batch in sampler)


def bench_sampler_alone(benchmark: Any, written: Callable[[str], Written]) -> None:
    rows = written("512B").rows
    benchmark.group = "torch's own batch sampler, 512B"
    assert benchmark.pedantic(sampler_step(rows), rounds=5, warmup_rounds=1) == rows.total
