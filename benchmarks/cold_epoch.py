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

import numpy as np
from torch.utils.data import DataLoader

import penstock

SHARDS, ROWS, ROW_BYTES = 24, 131_072, 1024  # 3 GiB
LIMIT = 1200 << 20
BATCH = 256
GROUP = Path("/sys/fs/cgroup")
ORDERS = ("in order", "shuffled in blocks", "shuffled")


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
    loader = DataLoader(dataset, batch_sampler=sampler_for(order, dataset))
    start, first, rows = time.perf_counter(), 0.0, 0
    for batch in loader:
        rows += len(batch)
        first = first or time.perf_counter() - start
        if time.perf_counter() - start > 20:
            break
    seconds = time.perf_counter() - start
    rate = f"{rows / seconds:>12,.0f} rows/s {rows * ROW_BYTES / seconds / 1e6:>8,.0f} MB/s"
    print(f"{order:20} {rate}   first batch {first * 1e3:4.0f} ms   {rows / len(dataset):4.0%} of the epoch")


def write(folder: Path) -> None:
    """The shards, on the disk and not in memory."""
    rng = np.random.default_rng(0)
    for shard in range(SHARDS):
        np.save(folder / f"{shard:02}.npy", rng.integers(0, 255, (ROWS, ROW_BYTES), np.uint8))


def forget(folder: Path) -> None:
    """Drop the shards from the page cache."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    """Every order in turn."""
    unified = (GROUP / "cgroup.controllers").exists()
    group = (GROUP if unified else GROUP / "memory") / f"penstock-cold-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        for order in ORDERS:
            forget(Path(folder))
            group.mkdir()
            (group / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(LIMIT))
            command = [sys.executable, "-m", "benchmarks.cold_epoch", folder, order]
            enter = lambda: (group / "cgroup.procs").write_text(str(os.getpid()))  # noqa: E731
            subprocess.run(command, check=True, preexec_fn=enter)
            group.rmdir()


if __name__ == "__main__":
    run(*sys.argv[1:]) if len(sys.argv) > 1 else main()
