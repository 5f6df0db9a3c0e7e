"""What rows of different lengths cost: every contender in turn, round after round, medians and ratios.

Run as `python -m benchmarks.ragged_side_by_side`: 200,000 sequences of 1 to 50 values of 10 float32 in 16
files, batches of 256, warm page cache, one thread each where nothing else is said. Before anything is timed
each loader gives an epoch that is compared with what was written. Needs 2 GB of memory, 0.3 GB in the
temporary folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import penstock
from benchmarks import bench_ragged
from benchmarks.bench_loader import WHOLE_EPOCH, run
from benchmarks.bench_ragged import (
    AHEAD,
    BY_HAND,
    COLLATE,
    COPIES,
    LOADERS,
    OURS,
    PACKED,
    PAD_SEQUENCE,
    PADDED,
    Sequences,
)
from benchmarks.files_side_by_side import on_two_threads
from benchmarks.reports import print_promises, report
from benchmarks.side_by_side import medians


def rates_of(steps: dict[str, Callable[[], Any]], data: Sequences) -> dict[str, float]:
    """Sequences/s of each."""
    return {name: len(data.rows) / seconds for name, seconds in medians(steps).items()}


def compare_epochs(data: Sequences) -> dict[str, float]:
    """Shuffled epochs; sequences/s."""
    loaders = {name: make(data) for name, make in LOADERS.items()}
    for loader in loaders.values():
        bench_ragged.check(loader, data)
    steps: dict[str, Callable[[], Any]] = {
        name: partial(run, loader, WHOLE_EPOCH) for name, loader in loaders.items()
    }
    steps[f"{AHEAD}, 2 threads"] = on_two_threads(loaders[AHEAD])
    return rates_of(steps, data)


def compare_alone(data: Sequences) -> dict[str, float]:
    """Batches without a loader; sequences/s."""
    steps = bench_ragged.alone_steps(data)
    for step, expected in steps.values():
        assert torch.equal(step(), expected)
    return rates_of({name: step for name, (step, _) in steps.items()}, data)


def promises(rates: dict[str, float], alone: dict[str, float]) -> None:
    """What was asked, and what came."""
    asked: list[tuple[str, float, str, float]] = []
    for name in (OURS, COLLATE):
        asked += [
            (f"{name}, x {PAD_SEQUENCE}", 8, "at least", rates[name] / rates[PAD_SEQUENCE]),
            (f"{name}, x {BY_HAND}", 3, "at least", rates[name] / rates[BY_HAND]),
        ]
    asked += [
        (f"{AHEAD}, x {PAD_SEQUENCE}", 15, "at least", rates[AHEAD] / rates[PAD_SEQUENCE]),
        (f"{AHEAD}, x {BY_HAND}", 3, "at least", rates[AHEAD] / rates[BY_HAND]),
        (f"{PADDED}, no loader, x {COPIES[PADDED]}", 0.6, "at least", alone[PADDED] / alone[COPIES[PADDED]]),
        (f"{PADDED}, no loader, x {BY_HAND}", 3, "at least", alone[PADDED] / alone[BY_HAND]),
    ]
    print_promises(asked)


def main() -> None:
    """Print everything."""
    torch.set_num_threads(1)
    penstock.set_num_threads(1)
    print(penstock.show_config())
    with tempfile.TemporaryDirectory() as folder:
        data = bench_ragged.write_sequences(Path(folder))
        what = f"{len(data.rows):,} sequences by {bench_ragged.BATCH}"
        rates = compare_epochs(data)
        report(f"{what}, shuffled, padded", rates, [PAD_SEQUENCE, BY_HAND], "sequences")
        alone = compare_alone(data)
        report(f"{what}, no loader", alone, [COPIES[PADDED], COPIES[PACKED]], "sequences")
        promises(rates, alone)


if __name__ == "__main__":
    main()
