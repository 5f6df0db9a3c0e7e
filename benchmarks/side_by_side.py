"""The README's figures: every contender in turn, round after round, medians and ratios.

Run as `python -m benchmarks.side_by_side`. One thread each, warm page cache. Before each timed pass a
contender makes one that is not timed, so that none inherits another's caches. Needs 6 GB of memory and
2 GB in the temporary folder.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import penstock
from benchmarks import bench_loader
from benchmarks.workloads import ROWS, Written, forget, gather_contenders, write

ROUNDS = 7


def timed(step: Callable[[], Any]) -> float:
    """Seconds of one pass, after one that does not count."""
    step()
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def medians(steps: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median seconds of each, interleaved."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            times[name].append(timed(step))
    return {name: statistics.median(values) for name, values in times.items()}


def report(title: str, rates: dict[str, float], row_bytes: int, reference: str) -> None:
    """One line per contender: rows/s, GB/s, ratio to the reference."""
    print(f"\n{title}")
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        gb_per_s, ratio = rate * row_bytes / 1e9, rate / rates[reference]
        print(f"  {name:36} {rate:>13,.0f} rows/s {gb_per_s:6.2f} GB/s {ratio:7.2f}x")


def cold_seconds(data: Written, name: str) -> float:
    """One epoch of a contender that finds nothing in memory."""
    gc.collect()  # what is mapped would stay
    forget(data.paths)
    step = gather_contenders(data)[name]
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def compare_cold(data: Written) -> None:
    """One epoch from the disk each, random batches; the last one is Penstock's."""
    names = ["np.memmap, vectorised per file", "penstock gather(out=)"]
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            times[name].append(cold_seconds(data, name))
    total = len(data.batches) * data.rows.batch
    rates = {name: total / statistics.median(each) for name, each in times.items()}
    report(f"gather from the disk, rows of {data.rows.name}", rates, data.rows.row_bytes, names[0])


def compare_gathers(data: Written, state: str) -> None:
    """Batches out of files against batches out of RAM."""
    rows = data.rows
    total = len(data.batches) * rows.batch
    seconds = medians(gather_contenders(data))
    rates = {name: total / value for name, value in seconds.items()}
    report(
        f"gather, rows of {rows.name}, batches of {rows.batch}, {state}",
        rates,
        rows.row_bytes,
        "torch.index_select(out=), in RAM",
    )


def compare_loaders(data: Written) -> None:
    """The standard DataLoader over each dataset."""
    rows = data.rows
    counts: dict[str, int] = {}

    def step(name: str) -> Callable[[], None]:
        make, collate_fn, most = bench_loader.CONTENDERS[name]
        loader = DataLoader(make(data), batch_size=rows.batch, shuffle=True, collate_fn=collate_fn)

        def run() -> None:
            counts[name] = bench_loader.run(loader, most)

        return run

    names = [name for name, (_, _, most) in bench_loader.CONTENDERS.items() if most > 1]
    seconds = medians(
        {name: step(name) for name in names} | {"torch's sampler alone": bench_loader.sampler_step(rows)}
    )
    counts["torch's sampler alone"] = rows.total
    rates = {name: counts[name] / value for name, value in seconds.items()}
    report(
        f"standard DataLoader, rows of {rows.name}, batches of {rows.batch}",
        rates,
        rows.row_bytes,
        "np.memmap, __getitems__",
    )


def compare_ahead(data: Written) -> None:
    """Loaders that work ahead, against batches from RAM with no loader at all."""
    rows = data.rows
    seconds = medians(bench_loader.ahead_steps(data, 2))
    rates = {name: rows.total / value for name, value in seconds.items()}
    report(
        f"ahead of time, rows of {rows.name}, batches of {rows.batch}",
        rates,
        rows.row_bytes,
        "torch.index_select(out=) in RAM, no loader, 1 thread",
    )


def main() -> None:
    """Print everything."""
    torch.set_num_threads(1)
    penstock.set_num_threads(1)
    print(penstock.show_config())
    for name, rows in ROWS.items():
        with tempfile.TemporaryDirectory() as folder:
            data = write(rows, Path(folder))
            compare_gathers(data, "files just written")
            compare_cold(data)
            compare_gathers(data, "files read by Penstock")
            if name != "40B":
                compare_loaders(data)
                compare_ahead(data)


if __name__ == "__main__":
    main()
