"""An epoch over data that memory cannot hold, from a cold disk: in order, shuffled in blocks, shuffled fully.

Run as `python -m benchmarks.cold_epoch`, as root (it makes a control group). Needs 3 GB in the temporary
folder. Every contender is a process of its own, under a limit of 1.2 GiB, and stops after 20 seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

import penstock
from benchmarks.workloads import forget

SHARDS, SHARD_BYTES = 24, 1 << 27  # 3 GiB
ROW_BYTES = (1024, 153_600)
LIMIT = 1200 << 20
BATCH = 256
GROUP = Path("/sys/fs/cgroup")
ORDERS = ("in order", "shuffled in blocks", "shuffled, ahead", "shuffled")


def sampler_for(order: str, dataset: penstock.Dataset) -> penstock.BatchSampler:
    """Batches in one of `ORDERS`."""
    if order == "in order":
        return penstock.BatchSampler(dataset, BATCH)
    if order == "shuffled":
        return penstock.BatchSampler(penstock.ShuffleSampler(dataset), BATCH)
    return penstock.BatchSampler(penstock.BlockShuffleSampler(dataset, window_bytes=1 << 28), BATCH)


def run(folder: str, order: str) -> None:
    """Print what 20 seconds of it give."""
    dataset = penstock.ShardDataset(folder)
    loader: Any = DataLoader(dataset, batch_sampler=sampler_for(order, dataset))
    if order == "shuffled, ahead":
        loader = penstock.DataLoader(dataset, BATCH, shuffle=True, prefetch_factor=16)
    start, first, rows = time.perf_counter(), 0.0, 0
    for batch in loader:
        rows += len(batch)
        first = first or time.perf_counter() - start
        if time.perf_counter() - start > 20:
            break
    seconds = time.perf_counter() - start
    megabytes = rows * dataset.schema[0].shape[0] / 1e6
    rate = f"{rows / seconds:>12,.0f} rows/s {megabytes / seconds:>8,.0f} MB/s"
    print(f"{order:20} {rate}   first batch {first * 1e3:4.0f} ms   {rows / len(dataset):4.0%} of the epoch")


def write(folder: Path, row_bytes: int) -> None:
    """The shards, on the disk and not in memory."""
    rng = np.random.default_rng(0)
    for shard in range(SHARDS):
        rows = rng.integers(0, 255, (SHARD_BYTES // row_bytes, row_bytes), np.uint8)
        np.save(folder / f"{shard:02}.npy", rows)


def compare(row_bytes: int) -> None:
    """Every order in turn."""
    print(f"\nrows of {row_bytes:,} bytes")
    unified = (GROUP / "cgroup.controllers").exists()
    group = (GROUP if unified else GROUP / "memory") / f"penstock-cold-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), row_bytes)
        for order in ORDERS:
            forget(Path(folder).iterdir())
            group.mkdir()
            (group / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(LIMIT))
            command = [sys.executable, "-m", "benchmarks.cold_epoch", folder, order]
            enter = lambda: (group / "cgroup.procs").write_text(str(os.getpid()))  # noqa: E731
            subprocess.run(command, check=True, preexec_fn=enter)
            group.rmdir()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(*sys.argv[1:])
    else:
        for size in ROW_BYTES:
            compare(size)
