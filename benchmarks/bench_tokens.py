"""Random windows of uint16 tokens as int64 x and y, against nanoGPT's recipe and better ones by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import penstock

BLOCK, BATCH, VOCABULARY = 1024, 64, 50_257
FILES, TOKENS, BATCHES = 16, 1 << 24, 200  # tokens of each file

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Tokens:
    """Files of one length, the same tokens in one file, and where the windows of each batch begin.

    Attributes:
        folder: Of the files.
        whole: All tokens, in one file.
        places: In that file, shape (batches, BATCH); no window crosses the end of one of the others.
        rows: Of a dataset of the files with a window at every place, likewise.
    """

    folder: Path
    whole: Path
    places: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    @property
    def windows(self) -> int:
        """In all batches."""
        return self.places.size


def write_tokens(folder: Path, tokens: int = TOKENS, batches: int = BATCHES) -> Tokens:
    """Write the files."""
    rng = np.random.default_rng(0)
    files, whole = folder / "files", folder / "whole.bin"
    files.mkdir()
    with open(whole, "wb") as all_tokens:
        for number in range(FILES):
            part = rng.integers(0, VOCABULARY, tokens, np.uint16)
            part.tofile(files / f"{number:02}.bin")
            part.tofile(all_tokens)
    file, place = rng.integers(0, FILES, (batches, BATCH)), rng.integers(0, tokens - BLOCK, (batches, BATCH))
    return Tokens(files, whole, file * tokens + place, file * (tokens - BLOCK) + place)


@pytest.fixture(scope="session")
def tokens(timed: bool, tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    folder = tmp_path_factory.mktemp("tokens")
    return write_tokens(folder) if timed else write_tokens(folder, 3 * BLOCK + 9, 2)


# --- a batch ----------------------------------------------------------------------------------------


def mapped(tokens: Tokens) -> Any:
    """All tokens as numpy maps them."""
    return np.memmap(tokens.whole, np.uint16, "r")


def recipe(data: Any, places: npt.NDArray[np.int64]) -> Pair:
    """nanoGPT's."""
    x = torch.stack([torch.from_numpy(data[i : i + BLOCK].astype(np.int64)) for i in places])
    y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + BLOCK].astype(np.int64)) for i in places])
    return x, y


def windows_at_once(data: Any, places: npt.NDArray[np.int64]) -> Pair:
    """One fancy index, widened once."""
    windows = torch.from_numpy(data[places[:, None] + np.arange(BLOCK + 1)].astype(np.int64))
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


def every_batch(make: Callable[[npt.NDArray[np.int64]], Pair], batches: Any) -> Callable[[], Pair]:
    """A step that makes them all and returns the last."""

    def step() -> Pair:
        for batch in batches:
            last = make(batch)
        return last

    return step


def ours(tokens: Tokens, **options: Any) -> penstock.TokenDataset:
    """A window at every place, as nanoGPT draws them."""
    options = {"stride": 1} | options
    return penstock.TokenDataset(tokens.folder, dtype="uint16", block_size=BLOCK, **options)


def gather_steps(tokens: Tokens) -> dict[str, Callable[[], Pair]]:
    """name: all batches by that contender."""
    data, dataset, checked = mapped(tokens), ours(tokens), ours(tokens, vocab_size=VOCABULARY)
    plain = np.asarray(data)
    out = [torch.empty(BATCH, BLOCK, dtype=torch.int64) for _ in range(2)]
    ready = [torch.zeros(BATCH, BLOCK, dtype=torch.int64) for _ in range(2)]

    def copied(_batch: Any) -> Pair:
        return out[0].copy_(ready[0]), out[1].copy_(ready[1])

    return {
        "penstock gather()": every_batch(dataset.gather, tokens.rows),
        "penstock gather(out=)": every_batch(lambda rows: dataset.gather(rows, out=out), tokens.rows),
        "penstock gather(), vocab_size checked": every_batch(checked.gather, tokens.rows),
        "nanoGPT: np.memmap, astype, stack": every_batch(lambda at: recipe(data, at), tokens.places),
        "nanoGPT: np.memmap made for each batch": every_batch(
            lambda at: recipe(mapped(tokens), at), tokens.places
        ),
        "the same on a plain array": every_batch(lambda at: recipe(plain, at), tokens.places),
        "one fancy index": every_batch(lambda at: windows_at_once(plain, at), tokens.places),
        "int64 copied from cache to cache": every_batch(copied, tokens.rows),
    }


GATHERS = (
    "penstock gather()",
    "penstock gather(out=)",
    "penstock gather(), vocab_size checked",
    "nanoGPT: np.memmap, astype, stack",
    "nanoGPT: np.memmap made for each batch",
    "the same on a plain array",
    "one fancy index",
    "int64 copied from cache to cache",
)


def note_rate(benchmark: Any, windows: int) -> None:
    """Windows a second, and the bytes of x and y."""
    if benchmark.stats:
        rate = windows / benchmark.stats.stats.median
        benchmark.extra_info |= {"windows/s": round(rate), "GB/s": round(rate * BLOCK * 16 / 1e9, 2)}


@pytest.mark.parametrize("contender", GATHERS)
def bench_gather_tokens(benchmark: Any, tokens: Tokens, contender: str) -> None:
    benchmark.group = f"token windows, {BATCH} x {BLOCK} uint16 -> int64"
    x, y = benchmark.pedantic(gather_steps(tokens)[contender], rounds=5, warmup_rounds=1)
    if "copied" not in contender:
        expected = recipe(mapped(tokens), tokens.places[-1])
        assert torch.equal(x, expected[0])
        assert torch.equal(y, expected[1])
    note_rate(benchmark, tokens.windows)


# --- a loader ---------------------------------------------------------------------------------------


class ByHand(Dataset[Pair]):
    """A window of a mapped file for each sample, as people write it."""

    def __init__(self, path: Path) -> None:
        self.data = np.memmap(path, np.uint16, "r")

    def __len__(self) -> int:
        return (len(self.data) - 1) // BLOCK

    def __getitem__(self, index: int) -> Pair:
        window = torch.from_numpy(self.data[index * BLOCK : index * BLOCK + BLOCK + 1].astype(np.int64))
        return window[:-1], window[1:]


def loader_steps(tokens: Tokens) -> dict[str, Callable[[], int]]:
    """name: a shuffled epoch of windows that follow each other."""
    dataset = ours(tokens, stride=None)
    loaders = {
        "penstock.DataLoader": penstock.DataLoader(dataset, batch_size=BATCH, shuffle=True, seed=0),
        "DataLoader over TokenDataset": DataLoader(dataset, batch_size=BATCH, shuffle=True),
        "DataLoader over np.memmap": DataLoader(ByHand(tokens.whole), batch_size=BATCH, shuffle=True),
    }

    def step(loader: Any) -> Callable[[], int]:
        return lambda: sum(len(x) for x, _ in loader)

    return {name: step(loader) for name, loader in loaders.items()}


LOADERS = ("penstock.DataLoader", "DataLoader over TokenDataset", "DataLoader over np.memmap")


@pytest.mark.parametrize("contender", LOADERS)
def bench_load_tokens(benchmark: Any, tokens: Tokens, contender: str) -> None:
    benchmark.group = f"token windows, loaders, {BATCH} x {BLOCK} uint16 -> int64"
    steps = loader_steps(tokens)
    windows = benchmark.pedantic(steps[contender], rounds=3, warmup_rounds=1)
    assert abs(windows - len(ours(tokens, stride=None))) < FILES  # by hand some cross files
    note_rate(benchmark, windows)
