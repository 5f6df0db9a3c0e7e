"""Rows of different lengths: 200,000 sequences of 1 to 50 values of 10 float32, padded in batches of 256."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

import penstock
from benchmarks import rivals
from benchmarks.bench_loader import WHOLE_EPOCH, run

COUNT, LONGEST, WIDTH, BATCH, SHARDS = 200_000, 50, 10, 256, 16


@dataclass(frozen=True)
class Sequences:
    """The files, and what is in them.

    Attributes:
        values: A glob for the files of values.
        lengths: A glob for the files of lengths, one for each of values.
        rows: All sequences. The first number of each of its values is the sequence's own, so that a batch
            tells what should be in it.
        counts: Their lengths, shape (sequences,), int64.
    """

    values: str
    lengths: str
    rows: list[Tensor]
    counts: np.ndarray


def write_sequences(folder: Path, count: int = COUNT) -> Sequences:
    """Write the files."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, LONGEST + 1, count)
    values = torch.rand((int(counts.sum()), WIDTH), generator=torch.Generator().manual_seed(0))
    values[:, 0] = torch.from_numpy(np.repeat(np.arange(count), counts))
    rows = list(values.split(counts.tolist()))
    for shard, numbers in enumerate(np.array_split(np.arange(count), SHARDS)):
        part = torch.cat(rows[numbers[0] : numbers[-1] + 1])
        np.save(folder / f"values-{shard:02}.npy", part.numpy())
        np.save(folder / f"lengths-{shard:02}.npy", counts[numbers])
    return Sequences(f"{folder}/values-*.npy", f"{folder}/lengths-*.npy", rows, counts)


@pytest.fixture(scope="session")
def sequences(timed: bool, tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    return write_sequences(tmp_path_factory.mktemp("sequences"), COUNT if timed else 2 * BATCH + 1)


# --- an epoch ---------------------------------------------------------------------------------------


def ours(data: Sequences) -> Any:
    """A RaggedDataset of the sequences."""
    return penstock.RaggedDataset(data.values, lengths=data.lengths)


def stock(dataset: Any, collate_fn: Any = None) -> Any:
    """The standard loader."""
    return DataLoader(dataset, BATCH, shuffle=True, collate_fn=collate_fn)


def by_hand(data: Sequences) -> Any:
    return rivals.PaddedByHand(torch.cat(data.rows).numpy(), data.counts)


OURS = "penstock.RaggedDataset"
COLLATE, AHEAD = f"{OURS}, penstock.collate", f"{OURS}, penstock.DataLoader"
PAD_SEQUENCE = "pad_sequence over a list"
COLLATED_LIST = "penstock.collate over a list"
BY_HAND = "numpy, padded without a loop"

# name: a loader of shuffled batches [padded, lengths]
LOADERS: dict[str, Callable[[Sequences], Any]] = {
    OURS: lambda data: stock(ours(data)),
    COLLATE: lambda data: stock(ours(data), penstock.collate),
    AHEAD: lambda data: penstock.DataLoader(ours(data), BATCH, shuffle=True),
    PAD_SEQUENCE: lambda data: stock(rivals.ListOfTensors(data.rows), rivals.padded),
    COLLATED_LIST: lambda data: stock(rivals.ListOfTensors(data.rows), penstock.Collate(ragged=True)),
    BY_HAND: lambda data: stock(by_hand(data), rivals.passed_through),
}


def check(loader: Any, data: Sequences) -> None:
    """An epoch: every sequence comes once, as it was written, and zeros behind it."""
    seen = []
    for padded, lengths in loader:
        numbers = padded[:, 0, 0].long()
        rows = [data.rows[number] for number in numbers.tolist()]
        assert lengths.tolist() == [len(row) for row in rows]
        assert torch.equal(padded, pad_sequence(rows, batch_first=True))
        seen.append(numbers)
    order = torch.cat(seen)
    assert not torch.equal(order, order.sort().values)
    assert torch.equal(order.sort().values, torch.arange(len(data.rows)))


@pytest.mark.parametrize("contender", LOADERS)
def bench_epoch_of_sequences(benchmark: Any, sequences: Sequences, contender: str) -> None:
    loader = LOADERS[contender](sequences)
    check(loader, sequences)
    benchmark.group = f"a shuffled epoch of {len(sequences.rows):,} sequences by {BATCH}, padded"
    count = benchmark.pedantic(run, (loader, WHOLE_EPOCH), rounds=5, warmup_rounds=1)
    assert count == len(sequences.rows)
    if benchmark.stats:
        benchmark.extra_info["sequences/s"] = round(count / benchmark.stats.stats.median)


# --- batches alone ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Laid:
    """All batches of one layout as they should be, end to end in one tensor that was written whole.

    Attributes:
        bytes: Of all batches.
        ends: Of each batch, in bytes.
        last: The last batch's values.
    """

    bytes: Tensor
    ends: list[int]
    last: Tensor


def laid_out(batches: list[np.ndarray], make: Callable[[np.ndarray], Tensor]) -> Laid:
    """The batches, each made by a rival."""
    parts = [make(batch) for batch in batches]
    flat = torch.cat([part.reshape(-1) for part in parts]).view(torch.uint8)
    return Laid(flat, np.cumsum([part.nbytes for part in parts]).tolist(), parts[-1])


def copy_step(laid: Laid) -> Callable[[], Tensor]:
    """Copies as many bytes, one batch after the other, into one buffer; gives the last."""
    sizes = np.diff([0, *laid.ends]).tolist()
    out = torch.empty(max(sizes), dtype=torch.uint8)

    def step() -> Tensor:
        for end, size in zip(laid.ends, sizes, strict=True):
            batch = out[:size].copy_(laid.bytes[end - size : end])
        return batch.view(laid.last.dtype).view(laid.last.shape)

    return step


def gather_step(dataset: Any, batches: list[np.ndarray], collate: penstock.Collate) -> Callable[[], Tensor]:
    """Assembles all batches without a loader; gives the last."""

    def step() -> Tensor:
        for batch in batches:
            result = collate(dataset.__getitems__(batch))
        return result[0]

    return step


def hand_step(dataset: Any, batches: list[np.ndarray]) -> Callable[[], Tensor]:
    def step() -> Tensor:
        for batch in batches:
            result = dataset.__getitems__(batch)
        return result[0]

    return step


PADDED, PACKED = "penstock, padded", "penstock, packed"
COPIES = {PADDED: "copy of the padded bytes (the limit)", PACKED: "copy of the packed bytes (the limit)"}
ALONE = (PADDED, PACKED, *COPIES.values(), BY_HAND)


def alone_steps(data: Sequences) -> dict[str, tuple[Callable[[], Tensor], Tensor]]:
    """name: (one pass over all batches, without a loader, that gives the last; what that should be)."""
    order = torch.randperm(len(data.rows), generator=torch.Generator().manual_seed(0)).numpy()
    batches = np.split(order, range(BATCH, len(order), BATCH))
    dataset, rival = ours(data), by_hand(data)
    laid = {
        PADDED: laid_out(
            batches, lambda batch: pad_sequence([data.rows[i] for i in batch], batch_first=True)
        ),
        PACKED: laid_out(batches, lambda batch: torch.cat([data.rows[i] for i in batch])),
    }
    gather = partial(gather_step, dataset, batches)
    return {
        PADDED: (gather(penstock.Collate()), laid[PADDED].last),
        PACKED: (gather(penstock.Collate(layout="pack")), laid[PACKED].last),
        BY_HAND: (hand_step(rival, batches), laid[PADDED].last),
        **{name: (copy_step(laid[kind]), laid[kind].last) for kind, name in COPIES.items()},
    }


@pytest.mark.parametrize("contender", ALONE)
def bench_batches_of_sequences(benchmark: Any, sequences: Sequences, contender: str) -> None:
    step, expected = alone_steps(sequences)[contender]
    benchmark.group = f"{len(sequences.rows):,} sequences by {BATCH} in random order, no loader"
    last = benchmark.pedantic(step, rounds=5, warmup_rounds=1)
    assert torch.equal(last, expected)
    if benchmark.stats:
        benchmark.extra_info["sequences/s"] = round(len(sequences.rows) / benchmark.stats.stats.median)
