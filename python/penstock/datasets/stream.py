"""Samples that a generator makes, or anything else that can be iterated over."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.utils.data
from torch.utils.data import get_worker_info

from penstock.background import Stop, never
from penstock.datasets.class_streams import ClassStreams
from penstock.datasets.stream_labels import Kept, Labels
from penstock.datasets.stream_sources import Recipe, how_to_open, rank_of, shard_of
from penstock.datasets.walks import ChunkWalk, ItemWalk
from penstock.errors import ArgumentError
from penstock.samplers.base import at_least
from penstock.samplers.classes import Label

__all__ = ["StreamDataset"]


class StreamDataset(torch.utils.data.IterableDataset[Any]):
    """Samples from a generator function, or from anything else that can be iterated over again.

    An `IterableDataset` for every DataLoader. `penstock.DataLoader` with `num_workers=0` runs the source
    once, in one thread, ahead of the loop, and copies what it yields straight into (pinned) batches: numpy
    arrays, tensors, numbers, strings, and tuples, lists and dicts of them, with the results of torch's
    `default_collate`. The thread shares Python's lock with the loop: a source that computes in pure Python is
    no faster for it, one that waits (for a disk, a network, a decoder) is. What such a source draws from
    torch's or numpy's global random numbers interleaves with the loop's: give it a generator of its own.

    Every item comes exactly once, whatever the number of worker processes and ranks. A source that takes
    `(shard, num_shards)` splits itself. Any other is run by each of them from front to back, and each keeps
    every num_shards-th item (or chunk): right, but the source's own work is then done num_shards times over,
    so workers help only with what comes after it. (`filter` and the shuffle come after.)

    Args:
        source: A callable that makes an iterable, called for each epoch, with `(shard, num_shards)` if it
            takes these; or an iterable that begins anew with each `iter()`, such as a list.
        batched: It yields chunks of rows: arrays or tensors whose first dimension is the batch, alone or in
            tuples, lists and dicts. They are cut anew to batches of any size; a sample is a row. Default:
            False.
        shuffle_buffer: Shuffle in a buffer of so many samples: yield a random one of them, put the next
            sample in its place. So a sample comes at most `shuffle_buffer - 1` places early, and late by as
            many on average (by more than k times as many with probability exp(-k)). This does not mix what
            lies much farther apart: a stream sorted by class stays so in the large. The order depends on
            (seed, epoch, shard) alone. Default: 0, as they come.
        seed: Of the shuffle. Default: drawn from torch's random numbers now, so that `torch.manual_seed`
            decides.
        length: How many samples an epoch has, over all ranks; then there is a `len()`, and
            `penstock.DataLoader` warns when there are more or fewer. Default: not known; `len()` raises
            TypeError.

    Raises:
        SchemaError: The source can be walked once only, or not at all, or needs other arguments.
        ArgumentError: A number is negative.
    """

    def __init__(
        self,
        source: Callable[..., Iterable[Any]] | Iterable[Any],
        *,
        batched: bool = False,
        shuffle_buffer: int = 0,
        seed: int | None = None,
        length: int | None = None,
    ) -> None:
        self._set_recipe(
            Recipe(
                source=source,
                how=how_to_open(source),
                batched=batched,
                shuffle_buffer=at_least(0, shuffle_buffer, "shuffle_buffer"),
                seed=int(torch.empty((), dtype=torch.int64).random_().item()) if seed is None else seed,
                length=None if length is None else at_least(0, length, "length"),
            )
        )

    def _set_recipe(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # persistent workers see it too
        self._start: dict[str, Any] = {}  # a state that the next pass goes on from
        self._walk: ItemWalk | ChunkWalk | None = None

    def __iter__(self) -> Iterator[Any]:
        return self.begin(never)

    def begin(self, stop: Stop) -> ItemWalk | ChunkWalk:
        """Begin the next epoch, or what is left of one.

        Args:
            stop: Asked now and then whether nobody wants any more.

        Raises:
            ArgumentError: The state to go on from is of another number of workers or ranks.
        """
        epoch, start = int(self._epoch), self._start
        shard, num_shards = shard_of()
        if start and start["shards"] != num_shards:
            raise ArgumentError(
                "this state is of another number of ranks and workers",
                expected=str(num_shards),
                actual=str(start["shards"]),
            )
        self._start = {}
        if get_worker_info() is None:
            self._epoch += 1
        kind = ChunkWalk if self.recipe.batched and not self.recipe.shuffle_buffer else ItemWalk
        self._walk = kind(self.recipe, epoch, start, shard, num_shards, stop)
        return self._walk

    def set_epoch(self, epoch: int) -> None:
        """Make this the next epoch, of the shuffle. Where a loaded state is in that very one, it is kept.

        A process counts its epochs by itself; worker processes do not, and need this for another order.

        Args:
            epoch: 0 or more.
        """
        if self._start and self._start["epoch"] != epoch:
            self._start = {}
        self._epoch.fill_(at_least(0, epoch, "epoch"))

    def state_dict(self) -> dict[str, Any]:
        """Where the latest pass is; for torchdata's StatefulDataLoader too.

        It holds the source's own state where its iterable, or the iterator, has `state_dict` and
        `load_state_dict`, and there is no shuffle buffer: then it is gone on with at once. (The state is
        asked for at every batch and copied, with chunks at every chunk.) Otherwise samples are counted, and
        those already seen are made again and skipped: the source must yield the same ones.
        """
        return self.next_state() if self._walk is None else self._walk.state()

    def next_state(self) -> dict[str, Any]:
        """Where the next pass will begin."""
        return self._start or {"epoch": int(self._epoch), "items": 0, "shards": shard_of()[1]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there: the next `iter()` begins with the sample after it.

        Raises:
            ArgumentError: This is no such state.
        """
        names = ("epoch", "items", "shards")
        if not isinstance(state, dict) or not all(_is_natural(state.get(name)) for name in names):
            raise ArgumentError("this is no state of a stream", actual=repr(state))
        self._epoch.fill_(state["epoch"])
        self._start, self._walk = dict(state) if state["items"] else {}, None

    def filter(
        self, class_index: Label | Collection[Label], *, target: str | int | None = None
    ) -> StreamDataset:
        """The samples of one class, or of some, as a stream that makes a pass of its own.

        Args:
            class_index: The label, or a set, list or tuple of labels.
            target: Which field holds the labels: a dict's key or a tuple's position. Default: the key
                `label`, `labels`, `target`, `targets`, `y` or `class`; the last of a tuple or list.

        Returns:
            A stream of the same source and options, without a length. Its shuffle buffer holds only what is
            kept.
        """
        chosen = class_index if isinstance(class_index, (set, frozenset, list, tuple)) else (class_index,)
        kept = Kept(chosen, Labels(target), self.recipe.kept)
        stream = copy.copy(self)
        stream._set_recipe(replace(self.recipe, kept=kept, length=None))
        return stream

    def by_class(
        self,
        classes: Iterable[Label],
        *,
        buffer: int = 1024,
        on_full: Literal["block", "drop", "error"] = "block",
        target: str | int | None = None,
    ) -> ClassStreams:
        """A stream for each of these classes, all fed by one pass in which each sample is made once.

        Args:
            classes: The labels. Samples of others are passed over and counted.
            buffer: How many samples of a class may lie ready. Default: 1024.
            on_full: What happens when a class has as many and its consumer stands still: "block": the pass,
                and so in the end every other consumer, waits for it; "drop": its further samples are left
                out, and counted; "error": all consumers raise. Default: "block".
            target: As in `filter`.

        Returns:
            A mapping from label to stream, for a `DataLoader` each.

        Raises:
            ArgumentError: There is no class, `buffer` is less than 1, or there is no such `on_full`.
        """
        return ClassStreams(self.begin, classes, buffer, on_full, Labels(target))

    def __len__(self) -> int:
        """Samples of this rank in an epoch."""
        if self.recipe.length is None:
            raise TypeError("the length of this stream is not known: give it length=")
        rank, world = rank_of()
        return max(0, -(-(self.recipe.length - rank) // world))

    def __bool__(self) -> bool:
        """True, as of any `IterableDataset`: Python would ask for the length."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        state = self.state_dict()
        return {**self.__dict__, "_walk": None, "_start": state if state["items"] else {}}

    def __repr__(self) -> str:
        return str(self.recipe)


def _is_natural(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0
