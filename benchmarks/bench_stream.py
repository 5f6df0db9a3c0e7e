"""Streams: a generator's items, chunks of them, and classes out of one pass; each result checked.

Run as `python -m benchmarks.bench_stream` it prints every contender in turn, round after round, medians and
ratios: one thread each (a stream's own comes on top), everything in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import penstock
from benchmarks.side_by_side import medians

BATCH, CHUNK, CLASSES, CLASS_BATCH = 1024, 32, 10, 256

Step = Callable[[], Any]


class Plain(IterableDataset[Any]):
    """A generator function as torch's own users wrap it."""

    def __init__(self, source: Callable[[], Iterator[Any]]) -> None:
        self.source = source

    def __iter__(self) -> Iterator[Any]:
        return self.source()


@dataclass(frozen=True)
class Items:
    """What the generators yield: made before, so that a loader is measured and not a source.

    Attributes:
        array: Shape (items, 10), float32; the first number of each row is its own.
        rows: Its rows as numpy arrays.
        tensors: Its rows as tensors.
        pairs: (row, class) of each.
    """

    array: Any
    rows: list[Any]
    tensors: list[Any]
    pairs: list[Any]


def make_items(count: int) -> Items:
    """So many items."""
    array = np.random.default_rng(0).random((count, 10), np.float32)
    array[:, 0] = np.arange(count)
    labels = np.random.default_rng(1).integers(0, CLASSES, count).tolist()
    rows = list(array)
    return Items(array, rows, list(torch.from_numpy(array)), list(zip(rows, labels, strict=True)))


def total_of(loader: Any) -> float:
    """The sum of all rows' own numbers."""
    total = 0.0
    for batch in loader:
        total += float((batch[0] if isinstance(batch, list) else batch)[:, 0].double().sum())
    return total


def item_steps(items: Items, kind: str) -> dict[str, Step]:
    """name: a pass over single items of one kind."""
    values: list[Any] = getattr(items, kind)

    def source() -> Iterator[Any]:
        yield from values

    def by_hand() -> Iterator[Any]:
        walk = source()
        while rows := list(islice(walk, BATCH)):
            if kind == "rows":
                yield torch.from_numpy(np.concatenate(rows).reshape(-1, 10))
            else:
                yield torch.stack(rows)

    steps: dict[str, Step] = {
        "penstock.DataLoader(StreamDataset)": lambda: total_of(
            penstock.DataLoader(penstock.StreamDataset(source), BATCH)
        ),
        "torch DataLoader(IterableDataset)": lambda: total_of(DataLoader(Plain(source), BATCH)),
        "torch DataLoader(StreamDataset)": lambda: total_of(
            DataLoader(penstock.StreamDataset(source), BATCH)
        ),
    }
    if kind != "pairs":
        steps["islice and one copy, no loader"] = lambda: total_of(by_hand())
    return steps


def chunk_steps(items: Items) -> dict[str, Step]:
    """name: a pass over chunks of 32, as batches of 1024."""

    def source() -> Iterator[Any]:
        for i in range(0, len(items.array), CHUNK):
            yield items.array[i : i + CHUNK]

    def rows() -> Iterator[Any]:
        for chunk in source():
            yield from chunk

    def by_rows() -> Iterator[Any]:
        held: list[Any] = []
        for chunk in source():
            held.extend(chunk)
            while len(held) >= BATCH:
                yield torch.from_numpy(np.stack(held[:BATCH]))
                held = held[BATCH:]
        if held:
            yield torch.from_numpy(np.stack(held))

    def by_chunks() -> Iterator[Any]:
        held: list[Any] = []
        count = 0
        for chunk in source():
            held.append(chunk)
            count += len(chunk)
            while count >= BATCH:
                whole = np.concatenate(held)
                yield torch.from_numpy(whole[:BATCH])
                held, count = [whole[BATCH:]], count - BATCH
        if count:
            yield torch.from_numpy(np.concatenate(held))

    stream = penstock.StreamDataset(source, batched=True)
    return {
        "penstock.DataLoader(batched=True)": lambda: total_of(penstock.DataLoader(stream, BATCH)),
        "a generator that cuts lists of rows": lambda: total_of(DataLoader(Plain(by_rows), batch_size=None)),
        "a generator that cuts concatenations": lambda: total_of(
            DataLoader(Plain(by_chunks), batch_size=None)
        ),
        "torch DataLoader over single rows": lambda: total_of(DataLoader(Plain(rows), BATCH)),
    }


def class_steps(items: Items) -> dict[str, Step]:
    """name: the batches of each of 10 classes."""

    def source() -> Iterator[Any]:
        yield from items.pairs

    def of_class(wanted: int) -> Callable[[], Iterator[Any]]:
        return lambda: (pair for pair in source() if pair[1] == wanted)

    def in_turn() -> float:
        streams = penstock.StreamDataset(source).by_class(range(CLASSES), buffer=4 * BATCH)
        walks = [iter(penstock.DataLoader(stream, CLASS_BATCH)) for stream in streams.values()]
        total = 0.0
        while walks:
            batches = [next(walk, None) for walk in walks]
            walks = [walk for walk, batch in zip(walks, batches, strict=True) if batch is not None]
            total += total_of(batch for batch in batches if batch is not None)
        return total

    def ten_passes(make: Callable[[int], Any]) -> float:
        return sum(total_of(make(wanted)) for wanted in range(CLASSES))

    stream = penstock.StreamDataset(source)
    return {
        "by_class, one pass": in_turn,
        "ten torch DataLoaders that filter": lambda: ten_passes(
            lambda wanted: DataLoader(Plain(of_class(wanted)), CLASS_BATCH)
        ),
        "ten penstock.DataLoaders, .filter()": lambda: ten_passes(
            lambda wanted: penstock.DataLoader(stream.filter(wanted), CLASS_BATCH)
        ),
    }


STEPS: dict[str, Callable[[Items], dict[str, Step]]] = {
    "numpy rows of 40 B, batches of 1024": lambda items: item_steps(items, "rows"),
    "torch rows of 40 B, batches of 1024": lambda items: item_steps(items, "tensors"),
    "(numpy row, label), batches of 1024": lambda items: item_steps(items, "pairs"),
    "chunks of 32 rows, batches of 1024": chunk_steps,
    "10 classes, batches of 256": class_steps,
}
_TINY = make_items(3_000)
CONTENDERS = [(group, name) for group in STEPS for name in STEPS[group](_TINY)]


@pytest.fixture(scope="module")
def items(timed: bool) -> Items:
    return make_items(100_000) if timed else _TINY


@pytest.mark.parametrize(("group", "contender"), CONTENDERS)
def bench_stream(benchmark: Any, items: Items, group: str, contender: str) -> None:
    benchmark.group = f"a stream: {group}"
    step = STEPS[group](items)[contender]
    total = benchmark.pedantic(step, rounds=5, warmup_rounds=1)
    assert total == len(items.array) * (len(items.array) - 1) / 2
    if benchmark.stats:
        benchmark.extra_info["items/s"] = round(len(items.array) / benchmark.stats.stats.median)


def main() -> None:
    """Print everything."""
    torch.set_num_threads(1)
    penstock.set_num_threads(1)
    print(penstock.show_config())
    items = make_items(200_000)
    for group, make in STEPS.items():
        seconds = medians(make(items))
        print(f"\n{group}")
        ours = len(items.array) / next(iter(seconds.values()))
        for name, value in seconds.items():
            rate = len(items.array) / value
            print(f"  {name:40} {rate:>13,.0f} items/s   {ours / rate:6.2f} x slower")


if __name__ == "__main__":
    main()
