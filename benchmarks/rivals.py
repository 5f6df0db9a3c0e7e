"""The datasets that people write by hand, as they write them: many rows a file, or one file a sample."""

from __future__ import annotations

import os
from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from benchmarks.workloads import memmap_gather


class OpenEachFile(Dataset[Tensor]):
    """Opens each file until the index fits."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.length = sum(np.load(path, mmap_mode="r").shape[0] for path in paths)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        for path in self.paths:
            rows = np.load(path)
            if index < len(rows):
                return torch.from_numpy(rows[index].copy())
            index -= len(rows)
        raise IndexError(index)


class LoadWholeFile(Dataset[Tensor]):
    """Knows the cumulative lengths, finds the file with next(), loads all of it."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.ends = np.cumsum([np.load(path, mmap_mode="r").shape[0] for path in paths]).tolist()

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Tensor:
        file = next(i for i, end in enumerate(self.ends) if index < end)
        start = self.ends[file - 1] if file else 0
        return torch.from_numpy(np.load(self.paths[file])[index - start].copy())


class MapAndFromBuffer(Dataset[Tensor]):
    """One mmap per file, np.frombuffer for each row."""

    def __init__(self, paths: list[Path]) -> None:
        maps = [np.load(path, mmap_mode="r") for path in paths]
        self.ends = np.cumsum([len(rows) for rows in maps]).tolist()
        self.dtype, self.row_shape = maps[0].dtype, maps[0].shape[1:]
        self.row_bytes = maps[0][0].nbytes
        self.buffers = [rows._mmap for rows in maps]
        self.offset = 128

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Tensor:
        file = bisect_right(self.ends, index)
        row = index - (self.ends[file - 1] if file else 0)
        count = self.row_bytes // self.dtype.itemsize
        values = np.frombuffer(self.buffers[file], self.dtype, count, self.offset + row * self.row_bytes)
        return torch.from_numpy(values.copy()).view(*self.row_shape)


class MemmapRows(Dataset[Tensor]):
    """One np.memmap per file, one row at a time."""

    def __init__(self, paths: list[Path]) -> None:
        self.maps = [np.load(path, mmap_mode="r") for path in paths]
        self.ends = np.cumsum([len(rows) for rows in self.maps]).tolist()

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Tensor:
        file = bisect_right(self.ends, index)
        return torch.from_numpy(self.maps[file][index - (self.ends[file - 1] if file else 0)].copy())


class MemmapBatches(MemmapRows):
    """The same with `__getitems__`: one fancy index per file. Needs `collate_fn=passed_through`."""

    def __getitems__(self, indices: list[int]) -> Tensor:
        return torch.from_numpy(memmap_gather(self.maps, len(self.maps[0]), np.asarray(indices)))


def passed_through(batch: Any) -> Any:
    """A collate function for datasets whose `__getitems__` gives the batch."""
    return batch


class LoadEach(Dataset[tuple[Tensor, int]]):
    """The tutorial's: a list of ids, labels by id, and torch.load for each sample."""

    def __init__(self, root: Path, list_IDs: list[str], labels: dict[str, int]) -> None:
        self.root = root
        self.list_IDs = list_IDs
        self.labels = labels

    def __len__(self) -> int:
        return len(self.list_IDs)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        ID = self.list_IDs[index]
        X = torch.load(f"{self.root}/{ID}.pt")
        y = self.labels[ID]
        return X, y


class LoadEachOnce(LoadEach):
    """The same, and every sample is kept in a dict."""

    def __init__(self, root: Path, list_IDs: list[str], labels: dict[str, int]) -> None:
        super().__init__(root, list_IDs, labels)
        self.cache: dict[int, tuple[Tensor, int]] = {}

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index not in self.cache:
            self.cache[index] = super().__getitem__(index)
        return self.cache[index]


class NumpyLoadEach(LoadEach):
    """The same over `.npy` files."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        ID = self.list_IDs[index]
        return torch.from_numpy(np.load(f"{self.root}/{ID}.npy")), self.labels[ID]


class PreadEach(LoadEach):
    """Every payload lies where the first one does, and is read into its place in the batch.

    The best by hand, and it checks nothing. Needs `collate_fn=passed_through`.
    """

    def __init__(
        self, root: Path, list_IDs: list[str], labels: dict[str, int], first: Tensor, offset: int
    ) -> None:
        super().__init__(root, list_IDs, labels)
        self.first = first
        self.offset = offset

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        IDs = [self.list_IDs[index] for index in indices]
        X = torch.empty(len(IDs), *self.first.shape, dtype=self.first.dtype)
        places: Any = X.numpy()
        for i, ID in enumerate(IDs):
            file = os.open(f"{self.root}/{ID}.pt", os.O_RDONLY)
            os.preadv(file, [places[i]], self.offset)
            os.close(file)
        return [X, torch.tensor([self.labels[ID] for ID in IDs])]


class ListOfTensors(Dataset[Tensor]):
    """A list of tensors of different lengths. Needs `collate_fn=padded`."""

    def __init__(self, rows: list[Tensor]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return self.rows[index]


def padded(rows: list[Tensor]) -> list[Tensor]:
    """A collate function: the rows padded to the longest, and their lengths."""
    return [pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])]


class PaddedByHand(Dataset[Tensor]):
    """All values in one array in RAM, and behind them a value of zeros, which padding is taken from.

    The fastest without a loop. Needs `collate_fn=passed_through`.
    """

    def __init__(self, values: np.ndarray, lengths: np.ndarray) -> None:
        self.values = np.concatenate([values, np.zeros_like(values[:1])])
        self.lengths = lengths
        self.firsts = np.cumsum(lengths) - lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        rows = np.asarray(indices)
        lengths = self.lengths[rows]
        positions = np.arange(lengths.max())
        is_value = positions < lengths[:, None]
        chosen = np.where(is_value, self.firsts[rows][:, None] + positions, len(self.values) - 1)
        return [torch.from_numpy(np.take(self.values, chosen, axis=0)), torch.from_numpy(lengths)]
