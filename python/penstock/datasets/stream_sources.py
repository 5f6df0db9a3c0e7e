"""What a stream comes from: how it is opened, and shared out."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from types import GeneratorType
from typing import Any, Literal

import torch
import torch.distributed
from torch.utils.data import get_worker_info

from penstock.datasets.stream_labels import Kept
from penstock.errors import ArgumentError, SchemaError

__all__ = ["Recipe", "Source", "how_to_open", "rank_of", "shard_of"]

How = Literal["iterable", "plain", "positional", "keywords"]
"""How a source becomes an iterable: it is one, or it is called, without arguments or with its shard."""


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
