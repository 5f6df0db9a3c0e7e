"""How long it takes to open many shards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import penstock

ROWS = np.arange(40, dtype=np.float32).reshape(10, 4)

WRITERS: dict[str, Callable[[Path], None]] = {
    "npy": lambda path: np.save(path, ROWS),
    "pt": lambda path: torch.save(torch.from_numpy(ROWS), path),
    "safetensors": lambda path: save_file({"x": torch.from_numpy(ROWS)}, path),
}


def _safetensors_rows(path: Path) -> int:
    with safe_open(path, "pt") as file:
        return file.get_slice("x").get_shape()[0]


OPENERS: dict[str, Callable[[Path], int]] = {
    "npy": lambda path: len(np.load(path, mmap_mode="r")),
    "pt": lambda path: len(torch.load(path, mmap=True)),
    "safetensors": _safetensors_rows,
}


@pytest.mark.parametrize("contender", ["penstock", "its own library, mapped"])
@pytest.mark.parametrize("suffix", WRITERS)
def bench_open(benchmark: Any, timed: bool, tmp_path: Path, suffix: str, contender: str) -> None:
    count = 1000 if timed else 20
    paths = [tmp_path / f"{i:04}.{suffix}" for i in range(count)]
    for path in paths:
        WRITERS[suffix](path)
    benchmark.group = f"open {count} .{suffix} shards"
    work = {
        "penstock": lambda: len(penstock.ShardDataset(f"{tmp_path}/*.{suffix}")),
        "its own library, mapped": lambda: sum(OPENERS[suffix](path) for path in paths),
    }[contender]
    assert benchmark.pedantic(work, rounds=5, warmup_rounds=1) == 10 * count
