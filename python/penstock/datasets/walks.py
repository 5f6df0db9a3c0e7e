"""Passes over a stream: opening its source, splitting, choosing, shuffling, cutting to batches."""

from __future__ import annotations

import copy
import inspect
import math
import time
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain, islice
from operator import itemgetter
from types import GeneratorType
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.distributed
from torch.utils.data import get_worker_info

from penstock import _core
from penstock.background import Stop
from penstock.datasets.base import TARGET_NAMES
from penstock.device import Produced
from penstock.errors import ArgumentError, SchemaError
from penstock.samplers.base import seed_bits
from penstock.samplers.classes import Label
from penstock.stacking import Stacker, batch_bytes, chunk_rows, map_chunk, rows_of

__all__ = ["ChunkWalk", "ItemWalk", "Labels", "Recipe", "Walk", "batches_of", "how_to_open", "shard_of"]

_PIECE_S = 0.005  # of a source's time between two looks at whether to stop
_DRAWN = 4096  # random numbers at a time
_PLAIN = {int, str, bool}  # types of labels

How = Literal["iterable", "plain", "positional", "keywords"]
"""How a source becomes an iterable: it is one, or it is called, without arguments or with its shard."""


# --- labels ------------------------------------------------------------------------------------------


class Labels:
    """Where the class labels of a stream's samples are.

    Args:
        target: A dict's key or a tuple's position. Default: the key `label`, `labels`, `target`, `targets`,
            `y` or `class`; the last of a tuple or list.
    """

    def __init__(self, target: str | int | None) -> None:
        self.target = target

    def key(self, sample: Any) -> Any:
        """What to index such a sample with.

        Raises:
            SchemaError: It has no such field.
        """
        if isinstance(sample, dict):
            names = TARGET_NAMES if self.target is None else (self.target,)
            found = [name for name in names if name in sample]
            if found:
                return found[0]
        elif isinstance(sample, (tuple, list)):
            position = -1 if self.target is None else self.target
            if isinstance(position, int) and -len(sample) <= position < len(sample):
                return position
        wanted = "a tuple, or a dict with a label" if self.target is None else f"a field {self.target!r}"
        raise SchemaError(
            "samples of this stream have no class labels",
            expected=wanted,
            actual=type(sample).__name__,
            hint="Name their field with target=.",
        )


def plain_label(label: Any) -> Any:
    """A label as an int or a string.

    Raises:
        SchemaError: It is not one number or string.
    """
    if isinstance(label, (torch.Tensor, np.ndarray, np.generic)) and math.prod(label.shape) == 1:
        label = label.item()
    if isinstance(label, (int, str, float, bytes)):
        return label
    found = (
        f"{type(label).__name__} of shape {tuple(label.shape)}" if hasattr(label, "shape") else repr(label)
    )
    raise SchemaError("a class label must be one number or string", actual=found)


class Kept:
    """The classes that a filter keeps, of what another one kept.

    Args:
        classes: Their labels.
        labels: Where they are.
        before: The other one. Default: none.
    """

    def __init__(self, classes: Iterable[Label], labels: Labels, before: Kept | None = None) -> None:
        self._classes = frozenset(map(plain_label, classes))
        self._labels = labels
        self._before = before

    def of_items(self, items: Iterator[Any], stop: Stop) -> Iterator[Any]:
        """The samples among these that are of one of the classes."""
        if self._before is not None:
            items = self._before.of_items(items, stop)
        label_of: Any = None
        for item in items:
            if stop():
                return
            if label_of is None:
                label_of = itemgetter(self._labels.key(item))
            label = label_of(item)
            if (label if type(label) in _PLAIN else plain_label(label)) in self._classes:
                yield item

    def of_chunks(self, chunks: Iterator[Any], stop: Stop) -> Iterator[Any]:
        """These chunks with only the rows that are of one of the classes."""
        if self._before is not None:
            chunks = self._before.of_chunks(chunks, stop)
        for chunk in chunks:
            if stop():
                return
            labels = np.asarray(chunk[self._labels.key(chunk)])
            chosen = np.isin(labels, list(self._classes))
            if chosen.any():
                yield chunk if chosen.all() else map_chunk(chunk, partial(_chosen, chosen))


def _chosen(chosen: Any, part: Any) -> Any:
    return part[torch.from_numpy(chosen) if isinstance(part, torch.Tensor) else chosen]


# --- sources -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """What a `StreamDataset` was made of: its arguments, by their names.

    Attributes:
        source: Of the items.
        how: To open it.
        batched: Whether its items are chunks.
        shuffle_buffer: Samples to shuffle among.
        seed: Of the shuffle.
        length: Samples of an epoch, over all ranks; None: not known.
        kept: The classes to keep; None: all.
    """

    source: Any
    how: How
    batched: bool
    shuffle_buffer: int
    seed: int
    length: int | None
    kept: Kept | None = None

    def __str__(self) -> str:
        name = getattr(self.source, "__qualname__", None) or type(self.source).__name__
        return f"StreamDataset({name})"

    def share(self, shard: int, num_shards: int) -> int | None:
        """How many samples of `length` one shard has; None: not known."""
        split_by_sample = self.how not in ("positional", "keywords") and not self.batched
        if self.length is None or (num_shards > 1 and not split_by_sample):
            return None
        return max(0, -(-(self.length - shard) // num_shards))


def how_to_open(source: Any) -> How:
    """How a source becomes an iterable, every epoch anew.

    Raises:
        SchemaError: It cannot.
    """
    if isinstance(source, Iterator):
        raise SchemaError(
            "a stream's source must begin anew every epoch, and this can be walked once only",
            expected="the generator function itself, or another callable that makes an iterable",
            actual=f"a {type(source).__name__}",
            hint="Write StreamDataset(numbers), not StreamDataset(numbers()); with arguments, "
            "StreamDataset(lambda: numbers(10)).",
        )
    if isinstance(source, Iterable):
        return "iterable"
    if not callable(source):
        raise SchemaError(
            "this is no source of a stream",
            expected="a callable that makes an iterable, or an iterable",
            actual=type(source).__name__,
        )
    return _call_style(source)


def _call_style(source: Callable[..., Any]) -> How:
    try:
        parameters = inspect.signature(source).parameters
    except (TypeError, ValueError):  # a builtin
        return "plain"
    if {"shard", "num_shards"} <= parameters.keys():
        return "keywords"
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [
        each
        for each in parameters.values()
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if not required:
        return "plain"
    if len(required) == 2 and all(each.kind in by_position for each in required):
        return "positional"
    raise SchemaError(
        "a stream's source is called without arguments, or with (shard, num_shards)",
        actual=f"one that needs {', '.join(each.name for each in required)}",
        hint="Write StreamDataset(lambda: source(...)).",
    )


def shard_of() -> tuple[int, int]:
    """Which share of a stream is for this process, and of how many: by ranks and worker processes."""
    rank, world = rank_of()
    worker = get_worker_info()
    if worker is None:
        return rank, world
    return worker.id * world + rank, world * worker.num_workers  # a rank's share whatever its workers


def rank_of() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _opened(recipe: Recipe, shard: int, num_shards: int) -> Iterable[Any]:
    if recipe.how == "iterable":
        return recipe.source  # type: ignore[no-any-return]
    if recipe.how == "keywords":
        opened = recipe.source(shard=shard, num_shards=num_shards)
    elif recipe.how == "positional":
        opened = recipe.source(shard, num_shards)
    else:
        opened = recipe.source()
    if isinstance(opened, Iterable):
        return opened
    raise SchemaError(
        f"the source of {recipe} made nothing to iterate over", actual=f"a {type(opened).__name__}"
    )


def _has_state(owner: Any) -> bool:
    return hasattr(owner, "state_dict") and hasattr(owner, "load_state_dict")


class Source:
    """An opened source: the items of one shard, and the source's own state if it has one.

    Args:
        recipe: Of the stream.
        shard: Whose items.
        num_shards: Of so many.
        state: The source's own state to go on from, taken right after an item of this shard. Default: none.

    Raises:
        ArgumentError: There is a state, and the source takes none.
        SchemaError: The source made nothing to iterate over.
    """

    def __init__(self, recipe: Recipe, shard: int, num_shards: int, state: Any = None) -> None:
        opened: Any = _opened(recipe, shard, num_shards)
        owns = _has_state(opened)
        if state is not None and owns:
            opened.load_state_dict(state)
        items: Any = iter(opened)
        stateful = [each for each in (opened, items) if _has_state(each)]
        self._owner: Any = next(iter(stateful), None)
        if state is not None and not stateful:
            raise ArgumentError("the state holds a source's own state, and this source takes none")
        if state is not None and not owns:
            stateful[0].load_state_dict(state)
        self._generator = items if isinstance(items, GeneratorType) else None
        if recipe.how in ("iterable", "plain") and num_shards > 1:
            items = islice(items, shard if state is None else num_shards - 1, None, num_shards)
        self.items: Iterator[Any] = items

    def state(self) -> Any:
        """A copy of the source's own state, or None."""
        return None if self._owner is None else copy.deepcopy(self._owner.state_dict())

    def close(self) -> None:
        """Have a generator run its `finally` now, in the thread that ran it."""
        if self._generator is not None:
            self._generator.close()


# --- passes ------------------------------------------------------------------------------------------


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
            raise failure
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
            yield Produced(batch, None, count, size, begun_ns, done_ns, walk.state())
    finally:
        walk.close()
