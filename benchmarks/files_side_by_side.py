"""What one file a sample costs: every contender in turn, round after round, medians and ratios.

Run as `python -m benchmarks.files_side_by_side`: 13,233 `.pt` files of (62, 47) float32, warm page cache, one
thread each (worker processes come on top, and stay from epoch to epoch). Before anything is timed each loader
gives an epoch that is compared with what was written. Needs 0.5 GB in the temporary folder.

With `--million [FOLDER]` also 1,000,000 `.npy` files of 64 bytes in 1,000 folders, which are made there once
(a minute, 4 GB) and kept. Every contender is then a process of its own, made anew for each round.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import penstock
from benchmarks import bench_files
from benchmarks.bench_files import (
    AHEAD,
    BARE,
    CACHED,
    DATASETS,
    FILES,
    GATHERS,
    LOADED_BY,
    LOADERS,
    OPENERS,
    PACKED,
    TUTORIAL,
    Faces,
)
from benchmarks.bench_loader import WHOLE_EPOCH, run
from benchmarks.reports import print_promises, report
from benchmarks.side_by_side import medians

MILLION_FOLDERS, MILLION_FILES = 1000, 1000  # in each
MILLION_BYTES = 64
MILLION_ROUNDS = 5


def compare_epochs(faces: Faces) -> dict[str, float]:
    """Shuffled epochs, and passes over the files without a loader; files/s."""
    loaders = {name: make(faces) for name, make in LOADERS.items()}
    for loader in loaders.values():
        bench_files.check(loader, faces)
    steps: dict[str, Callable[[], Any]] = {
        name: partial(run, loader, WHOLE_EPOCH) for name, loader in loaders.items()
    }
    steps[f"{CACHED}, its first epoch"] = lambda: run(LOADERS[CACHED](faces), WHOLE_EPOCH)
    for name in DATASETS:
        steps[f"{name}{AHEAD}, 2 threads"] = on_two_threads(loaders[name + AHEAD])
    order = torch.randperm(len(faces.ids), generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        alone = bench_files.gather_steps(faces, order, Path(folder))
    for step in alone.values():
        last = step()
        assert torch.equal(last, faces.ram[order[-len(last) :]])
    seconds = medians(steps | alone)
    return {name: len(faces.ids) / value for name, value in seconds.items()}


def on_two_threads(loader: Any) -> Callable[[], int]:
    """An epoch of it with two threads."""

    def step() -> int:
        penstock.set_num_threads(2)
        count = run(loader, WHOLE_EPOCH)
        penstock.set_num_threads(1)
        return count

    return step


def compare_openers(faces: Faces) -> dict[str, float]:
    """Seconds until there is a dataset."""
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        steps: dict[str, Callable[[], Any]] = {
            name: partial(make, faces, index) for name, make in OPENERS.items()
        }
        seconds = medians(steps)
    print(f"\nopen {len(faces.ids):,} files")
    for name, value in seconds.items():
        print(f"  {name:50} {value * 1e3:>9.2f} ms {value / len(faces.ids) * 1e6:>8.2f} us/file")
    return seconds


def promises(rates: dict[str, float], seconds: dict[str, float]) -> None:
    """What was asked, and what came."""
    best, alone = max(rates[name] for name in TUTORIAL.values()), rates[TUTORIAL[0]]
    openers = [value * 1e3 for name, value in seconds.items() if name.startswith(FILES)]
    asked: list[tuple[str, float, str, float]] = [
        ("epoch, x the tutorial at its best", 10, "at least", rates[FILES] / best),
    ]
    for name in (CACHED, PACKED):
        for loader in LOADED_BY:
            rate = rates[name + loader]
            asked += [(f"{name}{loader}, x the tutorial at its best", 60, "at least", rate / best)]
            asked += [(f"{name}{loader}, x it in one process", 60, "at least", rate / alone)]
    asked += [
        ("ms to open, ids and labels given", 150, "at most", openers[0]),
        ("ms to open, nothing given", 150, "at most", openers[1]),
        ("ms to open, with an index", 10, "at most", openers[2]),
    ]
    if BARE in rates:
        names = (*GATHERS[:2], *(FILES + loader for loader in LOADED_BY))
        asked += [(f"{name}, x {BARE}", 0.8, "at least", rates[name] / rates[BARE]) for name in names]
    print_promises(asked)


# --- a million files --------------------------------------------------------------------------------


def write_million(root: Path) -> None:
    """File k of all, in sorted order, holds the number k in float32; written once."""
    written = root.with_name(f"{root.name}.written")
    if written.exists():
        return
    header = npy_header()
    print(f"writing {MILLION_FOLDERS * MILLION_FILES:,} files under {root}", flush=True)
    for i in range(MILLION_FOLDERS):
        folder = root / f"{i:03}"
        folder.mkdir(parents=True, exist_ok=True)
        for k in range(MILLION_FILES):
            values = np.full(MILLION_BYTES // 4, i * MILLION_FILES + k, np.float32)
            (folder / f"{k:03}.npy").write_bytes(header + values.tobytes())
    written.touch()


def npy_header() -> bytes:
    """What NumPy writes before such an array."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.npy"
        np.save(path, np.zeros(MILLION_BYTES // 4, np.float32))
        return path.read_bytes()[:-MILLION_BYTES]


def resident() -> int:
    """Bytes of this process in memory: its own, shared, and of files."""
    status = Path("/proc/self/status").read_text()
    return sum(int(kb) for kb in re.findall(r"Rss(?:Anon|File|Shmem):\s+(\d+) kB", status)) * 1024


def sorted_walk(root: Path) -> list[str]:
    """The tutorial's list of ids."""
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)


def walk_and_labels(root: Path) -> tuple[list[str], dict[str, int]]:
    """The list, and its labels by id."""
    ids = sorted_walk(root)
    return ids, dict.fromkeys(ids, 0)


def ours(root: Path, **arguments: Any) -> Any:
    """A FileDataset of all files under a folder."""
    return penstock.FileDataset(root, **arguments)


# name: makes the dataset of a folder, given a path for an index
MILLION: dict[str, Callable[[Path, Path], Any]] = {
    f"{FILES}, from nothing": lambda root, _: ours(root),
    f"{FILES}, from nothing, and writes the index": lambda root, index: ours(root, index=index),
    f"{FILES}, with the index": lambda root, index: ours(root, index=index),
    "os.walk, a sorted list of paths": lambda root, _: sorted_walk(root),
    "the same and a dict of labels": lambda root, _: walk_and_labels(root),
}


def child(name: str, root: Path, index: Path) -> None:
    """In a process of its own: print as JSON what the making of one dataset costs, and its use."""
    penstock.set_num_threads(1)
    make = MILLION[name]
    with tempfile.TemporaryDirectory() as folder:  # what is loaded at the first use is not counted
        np.save(Path(folder) / "one.npy", np.zeros(MILLION_BYTES // 4, np.float32))
        small = make(Path(folder), Path(folder) / "one.index")
        if name.startswith(FILES):
            small.gather([0])
        del small
    gc.collect()
    before, start = resident(), time.perf_counter()
    dataset = make(root, index)
    seconds = time.perf_counter() - start
    gc.collect()
    result = {"seconds": seconds, "bytes": resident() - before}
    if name.startswith(FILES):
        for batch in torch.randperm(len(dataset))[:100_096].view(-1, 64):
            dataset.gather(batch)
        result["bytes, used"] = resident() - before
        result |= use_million(dataset, root)
    print(json.dumps(result))


def use_million(dataset: Any, root: Path) -> dict[str, float]:
    """Files/s of 100,096 random ones, checked, beside those of the bare loop."""
    count = len(dataset)
    assert count == MILLION_FOLDERS * MILLION_FILES
    batches = torch.randperm(count)[:100_096].view(-1, 64)
    for batch in batches:
        expected = batch[:, None].expand(-1, MILLION_BYTES // 4).float()
        assert torch.equal(dataset.gather(batch), expected)
    out = torch.empty(64, MILLION_BYTES // 4)

    def gather() -> None:
        for rows in indices:
            dataset.gather(rows, out=out)

    indices = [batch.numpy() for batch in batches]
    steps: dict[str, Callable[[], Any]] = {FILES: gather}
    with tempfile.TemporaryDirectory() as folder:
        read_files = bench_files.bare_loop(Path(folder))
    if read_files is not None:
        names = (f"{i // MILLION_FILES:03}/{i % MILLION_FILES:03}.npy" for i in batches.view(-1).tolist())
        steps[BARE] = bench_files.bare_step(
            read_files, [root / name for name in names], len(npy_header()), out
        )
    return {name: batches.numel() / seconds for name, seconds in medians(steps).items()}


def compare_million(root: Path) -> None:
    """Every contender in a new process, round after round."""
    write_million(root)
    index = root.with_name(f"{root.name}.index")
    results: dict[str, list[dict[str, float]]] = {name: [] for name in MILLION}
    for _ in range(MILLION_ROUNDS):
        index.unlink(missing_ok=True)
        for name, rounds in results.items():
            command = [sys.executable, "-m", "benchmarks.files_side_by_side", "--child", name]
            made = subprocess.run([*command, str(root), str(index)], check=True, stdout=subprocess.PIPE)
            rounds.append(json.loads(made.stdout))
    count = MILLION_FOLDERS * MILLION_FILES
    print(f"\nopen {count:,} files of {MILLION_BYTES} bytes, medians of {MILLION_ROUNDS} processes each")
    middle = {
        name: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        for name, rounds in results.items()
    }
    for name, values in middle.items():
        line = f"  {name:50} {values['seconds'] * 1e3:>9.1f} ms {values['bytes'] / count:>6.1f} bytes/file"
        if "bytes, used" in values:
            line += f" ({values['bytes, used'] / count:.1f} after 100,096 samples)"
        if BARE in values:
            line += f" {values[FILES]:>9,.0f} files/s, {values[FILES] / values[BARE]:.2f}x {BARE}"
        print(line)
    best = middle[f"{FILES}, with the index"]
    print_promises(
        [
            ("ms to open a million files, with an index", 100, "at most", best["seconds"] * 1e3),
            ("resident bytes a file", 200, "at most", best["bytes"] / count),
            ("resident bytes a file, after use", 200, "at most", best["bytes, used"] / count),
        ]
    )


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--million", nargs="?", type=Path, const=Path(tempfile.gettempdir()), metavar="FOLDER"
    )
    parser.add_argument("--only-million", action="store_true", help="leave out the faces")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
    torch.set_num_threads(1)
    penstock.set_num_threads(1)
    if arguments.child:
        name, root, index = arguments.child
        return child(name, Path(root), Path(index))
    print(penstock.show_config())
    if not arguments.only_million:
        with tempfile.TemporaryDirectory() as folder:
            faces = bench_files.write_faces(Path(folder))
            rates = compare_epochs(faces)
            reference = max(TUTORIAL.values(), key=lambda name: rates[name])
            report(
                f"{len(faces.ids):,} files by {bench_files.BATCH}, shuffled",
                rates,
                [reference, BARE] if BARE in rates else [reference],
            )
            promises(rates, compare_openers(faces))
    if arguments.million:
        compare_million(arguments.million / "penstock-million")
    return None


if __name__ == "__main__":
    main()
