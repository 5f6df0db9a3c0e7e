"""What a folder of JPEGs costs: every contender in turn, round after round, medians and ratios.

Run as `python -m benchmarks.image_folders_side_by_side`. First on one thread (the loop's own), then with
every processor, or as many worker processes. Warm page cache. torchvision where it is installed.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

import penstock
from benchmarks.bench_image_folders import BATCH, FILES, PIPELINES, SIDE, epoch, loaders, write_jpegs
from benchmarks.side_by_side import medians
from penstock import _core


def compare(folder: Path, pipeline: str, threads: int) -> None:
    """One line per contender: images a second, ratio to the first of ours."""
    penstock.set_num_threads(threads)
    workers = [0] if threads == 1 else [0, threads]
    contenders = loaders(folder, pipeline, workers)
    if threads == 1:  # these have a thread beside the loop's all the same
        del contenders["penstock.DataLoader"], contenders["penstock.DataLoader, fast"]
    seconds = medians({name: epoch(loader) for name, loader in contenders.items()})
    print(f"\n{pipeline}, batches of {BATCH} x {SIDE} x {SIDE} float32, {threads} threads")
    best = min(value for name, value in seconds.items() if "penstock" in name and "fast" not in name)
    for name, value in sorted(seconds.items(), key=lambda item: item[1]):
        print(f"  {name:40} {FILES / value:>8,.0f} images/s {value / best:7.2f}x as long as ours")


def open_folder(folder: Path) -> None:
    """How long an index of 100,000 images takes to open."""
    root, index = folder / "many", folder / "index"
    for number in range(100):
        (root / f"class_{number:02}").mkdir(parents=True)
        for file in range(1000):
            (root / f"class_{number:02}" / f"{file:04}.jpg").touch()
    time.sleep(0.1)  # or the folders have changed too lately to tell
    transform = PIPELINES["Resize, Normalize"](penstock.transforms)
    penstock.ImageFolder(root, transform, index=index)
    steps = {
        "with an index": lambda: penstock.ImageFolder(root, transform, index=index),
        "without": lambda: penstock.ImageFolder(root, transform),
    }
    print("\n100,000 images in 100 classes, opened")
    for name, value in medians(steps).items():
        print(f"  {name:40} {value * 1e3:8.1f} ms")


def main() -> None:
    """Write the files and compare."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        open_folder(folder)
        jpegs = folder / "jpegs"
        jpegs.mkdir()
        write_jpegs(jpegs)
        for pipeline in PIPELINES:
            for threads in sorted({1, _core.num_processors()}):
                compare(jpegs, pipeline, threads)


if __name__ == "__main__":
    main()
