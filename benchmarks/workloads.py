"""The data that is measured on, and one step of work for each contender."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import penstock

Step = Callable[[], Any]


@dataclass(frozen=True)
class Rows:
    """Rows of one shape in `.npy` shards of equal length.

    Attributes:
        name: For reports.
        shards: Number of files.
        rows: In each file.
        columns: Elements of a row.
        dtype: Of the elements.
        batch: Rows in a batch.
    """

    name: str
    shards: int
    rows: int
    columns: int
    dtype: str
    batch: int

    @property
    def total(self) -> int:
        """Rows in all."""
        return self.shards * self.rows

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.columns * np.dtype(self.dtype).itemsize

    def tiny(self) -> Rows:
        """The same, small enough to run once in every test run."""
        return Rows(self.name, 4, 2 * self.batch, self.columns, self.dtype, self.batch)


ROWS = {
    "40B": Rows("40B", 64, 65_536, 10, "float32", 8192),
    "512B": Rows("512B", 64, 16_384, 128, "float32", 1024),
    "150KB": Rows("150KB", 16, 512, 3 * 224 * 224, "uint8", 256),
}


@dataclass(frozen=True)
class Written:
    """A workload on disk, in the page cache, and in one tensor in RAM."""

    rows: Rows
    paths: list[Path]
    ram: Tensor
    batches: list[Tensor]

    @property
    def pattern(self) -> str:
        """A glob for the shards."""
        return str(self.paths[0].parent / "*.npy")


def write(rows: Rows, folder: Path) -> Written:
    """Write a workload and read it all once."""
    rng = np.random.default_rng(0)
    paths = []
    for shard in range(rows.shards):
        path = folder / f"{shard:03}.npy"
        values = rng.integers(0, 255, (rows.rows, rows.columns), dtype=np.uint8)
        np.save(path, values.astype(rows.dtype) if rows.dtype != "uint8" else values)
        paths.append(path)
    ram = torch.cat([torch.from_numpy(np.load(path)) for path in paths])
    order = torch.randperm(rows.total, generator=torch.Generator().manual_seed(0))
    return Written(
        rows, paths, ram, list(order[: rows.total // rows.batch * rows.batch].view(-1, rows.batch))
    )


def forget(paths: Iterable[Path]) -> None:
    """Drop files that nobody maps from the page cache."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def gather_contenders(data: Written) -> dict[str, Step]:
    """One epoch of random batches each; every step returns its last batch."""
    rows = data.rows
    dataset = penstock.ShardDataset(data.pattern)
    indices = [batch.numpy() for batch in data.batches]
    maps = [np.load(path, mmap_mode="r") for path in data.paths]
    out = torch.empty(rows.batch, rows.columns, dtype=data.ram.dtype)

    def penstock_out() -> Tensor:
        for batch in indices:
            dataset.gather(batch, out=out)
        return out

    def penstock_new() -> Tensor:
        for batch in indices:
            result = dataset.gather(batch)
        return result

    def index_select_out() -> Tensor:
        for batch in data.batches:
            torch.index_select(data.ram, 0, batch, out=out)
        return out

    def tensor_new() -> Tensor:
        for batch in data.batches:
            result = data.ram[batch]
        return result

    def sequential_copy() -> None:
        for start in range(0, len(indices) * rows.batch, rows.batch):
            out.copy_(data.ram[start : start + rows.batch])

    def memmap_vectorised() -> Tensor:
        for batch in indices:
            result = memmap_gather(maps, rows.rows, batch)
        return torch.from_numpy(result)

    return {
        "penstock gather(out=)": penstock_out,
        "penstock gather()": penstock_new,
        "torch.index_select(out=), in RAM": index_select_out,
        "tensor[indices], in RAM": tensor_new,
        "np.memmap, vectorised per file": memmap_vectorised,
        "sequential copy (the limit)": sequential_copy,
    }


def memmap_gather(maps: list[Any], rows_per_file: int, indices: np.ndarray) -> np.ndarray:
    """What an expert writes by hand: one fancy index per file that the batch touches."""
    files, rows = np.divmod(indices, rows_per_file)
    out = np.empty((len(indices), *maps[0].shape[1:]), maps[0].dtype)
    for file in np.unique(files):
        chosen = files == file
        out[chosen] = maps[file][rows[chosen]]
    return out


def batches_of(loader: Any, most: int) -> Iterator[Any]:
    """At most so many batches; a slow rival need not finish an epoch."""
    for i, batch in enumerate(loader):
        if i == most:
            return
        yield batch
