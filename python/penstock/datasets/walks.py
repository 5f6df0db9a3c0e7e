"""Passes over a stream: choosing, shuffling, cutting to batches."""

from __future__ import annotations

import time
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from itertools import accumulate, chain, islice
from typing import Any, Protocol

import numpy as np

from penstock import _core
from penstock.background import Stop
from penstock.datasets.stream_sources import Recipe, Source
from penstock.device import Produced
from penstock.samplers.base import seed_bits
from penstock.stacking import Stacker, batch_bytes, chunk_rows, rows_of

__all__ = ["ChunkWalk", "ItemWalk", "Walk", "batches_of"]

_PIECE_S = 0.005  # of a source's time between two looks at whether to stop
_DRAWN = 4096  # random numbers at a time


class Walk(Protocol):
    """One pass over a stream, as a loader sees it."""

    items: int

    def take(self, count: int) -> list[Any]:
        """The next samples: fewer only at the end, or when told to stop."""

    def batch(self, count: int, stacker: Stacker) -> tuple[Any, int]:
        """The next samples as a batch, and how many they are: fewer only at the end."""

    def state(self) -> dict[str, Any] | None:
        """What to go on from."""

    def finish(self, *, ended: bool) -> None:
        """Say what is to be said when there are too many samples, or at the end."""

    def close(self) -> None:
        """Let go of everything."""


class _Walk(Iterator[Any]):
    """What passes over items and over chunks share.

    Args:
        recipe: Of the stream.
        epoch: The number of the pass.
        start: A state to go on from, or {}.
        shard: Which share of the stream.
        num_shards: Of so many.
        stop: Asked now and then whether nobody wants any more.

    Attributes:
        items: Samples handed over so far, or skipped at the start.
    """

    def __init__(
        self, recipe: Recipe, epoch: int, start: dict[str, Any], shard: int, num_shards: int, stop: Stop
    ) -> None:
        self._recipe = recipe
        self._epoch = epoch
        self._start = start
        self._shard = shard
        self._num_shards = num_shards
        self._stop = stop
        self._source: Source | None = None
        self._ended = False
        self._failure: Exception | None = None  # to be raised after what came before it
        self._pace = 1  # items that a source makes in a few milliseconds
        self._share = recipe.share(shard, num_shards)
        self.items: int = start.get("items", 0)

    def state(self) -> dict[str, Any]:
        """What to go on from: see `StreamDataset.state_dict`."""
        if self._ended:
            return {"epoch": self._epoch + 1, "items": 0, "shards": self._num_shards}
        exact = self._start if self._source is None else self._exact()
        own: dict[str, Any] = {key: exact[key] for key in ("source", "skip") if key in exact}
        return {"epoch": self._epoch, "items": self.items, "shards": self._num_shards, **own}

    @abstractmethod
    def _exact(self) -> dict[str, Any]:
        """The source's own state, where it has one, and what to skip after it."""

    def _open(self) -> Source:
        """Open the source: in the thread that walks."""
        self._source = Source(self._recipe, self._shard, self._num_shards, self._start.get("source"))
        return self._source

    def _some(self, items: Iterator[Any], most: int) -> list[Any]:
        """What comes in a few milliseconds: at least one; none at the end, or to stop.

        What the source raises is raised after what it yielded before.
        """
        some: list[Any] = []
        if self._failure is not None:
            failure, self._failure = self._failure, None
            try:
                raise failure
            finally:
                del failure  # its traceback holds this frame
        if self._stop():
            return some
        before = time.perf_counter()
        try:
            some.extend(islice(items, min(self._pace, most)))
        except Exception as failure:
            if not some:
                raise
            self._failure = failure
        is_quick = time.perf_counter() - before < _PIECE_S
        self._pace = min(2 * self._pace, 1 << 20) if is_quick else max(1, self._pace // 2)
        return some

    @abstractmethod
    def piece(self, count: int) -> list[Any]:
        """Some of the next samples: what takes a few milliseconds to make; none at the end, or to stop."""

    def take(self, count: int) -> list[Any]:
        """See `Walk`."""
        taken = self.piece(count)
        while len(taken) < count and (piece := self.piece(count - len(taken))):
            taken += piece
        return taken

    def close(self) -> None:
        """Let go of the source."""
        if self._source is not None:
            self._source.close()

    def finish(self, *, ended: bool) -> None:
        """Say so where there are more samples than promised, fewer, or none."""
        if ended and self.items == 0 and self._num_shards == 1 and self._recipe.kept is None:
            if self._share != 0:
                warnings.warn(
                    f"{self._recipe} yielded nothing; a callable source must make a new iterable each time",
                    stacklevel=2,
                )
        elif self._share is not None and (self.items > self._share or (ended and self.items < self._share)):
            warnings.warn(
                f"{self._recipe} was said to have {self._share} samples for this process, "
                f"but {self.items} {'came' if ended else 'have come so far'}",
                stacklevel=2,
            )
            self._share = None


class ItemWalk(_Walk):
    """A pass over samples, one by one."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._samples: Iterator[Any] | None = None

    def __next__(self) -> Any:
        try:
            sample = next(self._samples or self._begin())
        except StopIteration:
            self._ended = True
            raise
        self.items += 1
        return sample

    def piece(self, count: int) -> list[Any]:
        """See `_Walk`."""
        if self._ended:
            return []
        piece = self._some(self._samples or self._begin(), count)
        self._ended = not piece and not self._stop()
        self.items += len(piece)
        return piece

    def batch(self, count: int, stacker: Stacker) -> tuple[Any, int]:
        """See `Walk`."""
        first = self.items
        samples = self.take(count)
        return (stacker.stack(samples, first) if samples else None), len(samples)

    def _exact(self) -> dict[str, Any]:
        state = None if self._source is None or self._recipe.shuffle_buffer else self._source.state()
        return {} if state is None else {"source": state}

    def _begin(self) -> Iterator[Any]:
        recipe = self._recipe
        samples = self._open().items
        if recipe.batched:
            chunks = samples if recipe.kept is None else recipe.kept.of_chunks(samples, self._stop)
            samples = chain.from_iterable(rows_of(chunk) for chunk in chunks if chunk_rows(chunk))
        elif recipe.kept is not None:
            samples = recipe.kept.of_items(samples, self._stop)
        if recipe.shuffle_buffer:
            key = [seed_bits(recipe.seed), self._epoch, self._shard]
            samples = _shuffled(samples, recipe.shuffle_buffer, key, self._stop)
        self._samples = samples
        if "source" not in self._start:
            self.items, wanted = 0, self.items
            while self.items < wanted and self.take(min(wanted - self.items, _DRAWN)):
                pass
        return samples


def _shuffled(samples: Iterator[Any], size: int, key: list[int], stop: Stop) -> Iterator[Any]:
    """These samples, each drawn at random from a buffer of so many that the next one refills."""
    bits = np.random.Philox(np.random.SeedSequence(key))  # its raw numbers are numpy's promise; no others are
    buffer = []
    for sample in islice(samples, size):
        if stop():
            return
        buffer.append(sample)
    drawn = chain.from_iterable(iter(lambda: (bits.random_raw(_DRAWN) % size).tolist(), None))
    for sample, k in zip(samples, drawn, strict=False):
        given, buffer[k] = buffer[k], sample
        yield given
    if buffer:
        order = _core.Permutation(len(buffer), bits.random_raw(), 0).take(0, len(buffer))
        yield from map(buffer.__getitem__, order.tolist())


class ChunkWalk(_Walk):
    """A pass over chunks, which are cut to batches."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._chunks: Iterator[Any] | None = None
        self._held: list[Any] = []  # chunks with rows that are still to come
        self._lengths: list[int] = []  # of these
        self._before: list[Any] = []  # the source's own state before each, where it has one
        self._given = 0  # rows of the first
        self._rows = 0  # still to come, of all
        self._singles: Iterator[Any] | None = None  # rows of the first, where they are wanted one by one
        self._is_exhausted = False  # there are no more chunks

    def __next__(self) -> Any:
        for sample in self.take(1):
            return sample
        raise StopIteration

    def piece(self, count: int) -> list[Any]:
        """See `_Walk`."""
        if not self._rows and not self._pull(1):
            return []
        if self._singles is None:
            self._singles = iter(rows_of(self._held[0])[self._given :])
        piece = list(islice(self._singles, count))
        self._give(len(piece))
        return piece

    def batch(self, count: int, stacker: Stacker) -> tuple[Any, int]:
        """See `Walk`."""
        while self._rows < count and self._pull(count - self._rows):
            pass
        count = min(count, self._rows)
        if count == 0:
            return None, 0
        needed, rows = 0, -self._given
        while rows < count:
            rows += self._lengths[needed]
            needed += 1
        firsts = accumulate(self._lengths[: needed - 1], initial=self.items - self._given)
        batch = stacker.join(self._held[:needed], self._given, count, list(firsts))
        self._give(count)
        return batch, count

    def _pull(self, rows: int) -> bool:
        """Some more chunks, to have so many more rows or fewer; not at the end, or when told to stop."""
        chunks = self._chunks or self._begin()
        while not self._is_exhausted and not self._stop():
            before = self._own_state()
            most = rows // max(1, self._lengths[-1]) if before is None and self._lengths else 1
            some = self._some(chunks, max(1, most))
            lengths = list(map(chunk_rows, some))
            if not some and not self._stop():
                self._is_exhausted, self._ended = True, self._rows == 0
            if sum(lengths):
                self._held += some
                self._lengths += lengths
                self._before += [before] * len(some)
                self._rows += sum(lengths)
                return True
        return False

    def _give(self, count: int) -> None:
        """So many rows are handed over, or skipped."""
        self.items += count
        self._rows -= count
        self._given += count
        done = 0
        while done < len(self._held) and self._given >= self._lengths[done]:
            self._given -= self._lengths[done]
            done += 1
        if done:
            del self._held[:done], self._lengths[:done], self._before[:done]
            self._singles = None
        self._ended = self._is_exhausted and self._rows == 0

    def _own_state(self) -> Any:
        return None if self._source is None else self._source.state()

    def _exact(self) -> dict[str, Any]:
        state = self._before[0] if self._held else self._own_state()
        return {} if state is None else {"source": state, "skip": self._given}

    def _begin(self) -> Iterator[Any]:
        chunks = self._open().items
        if self._recipe.kept is not None:
            chunks = self._recipe.kept.of_chunks(chunks, self._stop)
        self._chunks = chunks
        skip = self._start.get("skip", 0) if "source" in self._start else self.items
        self.items -= skip
        while skip and (self._rows or self._pull(skip)):
            some = min(skip, self._rows)
            self._give(some)
            skip -= some
        return chunks


# --- batches -----------------------------------------------------------------------------------------


def batches_of(
    walk: Walk,
    batch_size: int,
    stop: Stop,
    *,
    drop_last: bool,
    collate_fn: Callable[[list[Any]], Any] | None,
    stacker: Stacker,
) -> Iterator[Produced]:
    """The batches of a pass.

    Args:
        walk: The pass.
        batch_size: Samples of a batch.
        stop: Asked whether nobody wants any more.
        drop_last: Leave out a last batch that is shorter.
        collate_fn: Puts samples together; None: `stacker` does.
        stacker: Of this pass.
    """
    try:
        while not stop():
            begun_ns = time.perf_counter_ns()
            if collate_fn is None:
                batch, count = walk.batch(batch_size, stacker)
            else:
                samples = walk.take(batch_size)
                count = len(samples)
                batch = collate_fn(samples) if count == batch_size or (count and not drop_last) else None
            if stop():
                return
            walk.finish(ended=count < batch_size)
            if count == 0 or (drop_last and count < batch_size):
                return
            done_ns = time.perf_counter_ns()
            size = stacker.bytes if collate_fn is None else batch_bytes(batch)
            batch = stacker.pinned(batch)
            yield Produced(batch, None, count, size, begun_ns, done_ns, walk.state())
    finally:
        walk.close()
