"""What all orders of samples share: epochs, ranks, state."""

from __future__ import annotations

import operator
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Sized
from itertools import chain
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch.distributed
import torch.utils.data

from penstock.errors import ArgumentError, SchemaError

__all__ = ["AsTheyCome", "BatchOrder", "IndexArray", "Order", "Ordered", "Pass", "Sampler"]

IndexArray: TypeAlias = npt.NDArray[np.int64]
"""Sample numbers, shape (n,), int64."""

_CHUNK = 8192  # samples that an iterator over single samples asks the core for


class Order(Protocol):
    """The samples of one epoch, by their position in it."""

    def take(self, first: int, count: int, step: int = 1) -> IndexArray:
        """The samples at first, first + step, ...: `count` of them."""
        ...


class AsTheyCome:
    """The order in which position i is sample i."""

    def take(self, first: int, count: int, step: int = 1) -> IndexArray:
        """See `Order`."""
        return np.arange(first, first + count * step, step, dtype=np.int64)


class Ordered:
    """An order of samples, or of batches, that is the same for everybody: a function of seed and epoch.

    Each `iter()` is one epoch. `set_epoch` says which; without it a single process counts them up from 0, so
    that every epoch has another order. With several ranks nothing is counted (a rank that looked at one
    batch more would be out of step for ever after): call `set_epoch`, as with torch's `DistributedSampler`.

    Ranks take turns: rank r of R has positions r, r + R, r + 2 * R, ... of the one global order. Where they
    do not come out even, the first positions are used again (`drop_last=False`), or the last are left out.

    Args:
        seed: With the epoch it makes the order. Default: 0.
        num_replicas: Ranks that share the order. Default: torch.distributed's world size when that is
            initialised as the order is used, else 1.
        rank: Which of them this is. Default: likewise.
        drop_last: Leave out what does not go round, instead of repeating. Default: False.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
        drop_last: bool = False,
    ) -> None:
        self.seed = operator.index(seed)
        self.drop_last = drop_last
        self._num_replicas = num_replicas
        self._rank = rank
        self._epoch = 0  # of the next pass
        self._start = 0  # and where it begins
        self._asked = False  # whether set_epoch has named that epoch
        self._pass: Pass | None = None  # the latest one
        self._ranks()

    @property
    def repeats(self) -> bool:
        """Whether a sample may come more than once in an epoch, and not only to make ranks come out even."""
        return False

    @property
    @abstractmethod
    def _global_length(self) -> int:
        """Positions of an epoch, over all ranks."""

    @abstractmethod
    def _order(self, epoch: int) -> Any:
        """What an epoch's positions stand for."""

    def _length_in(self, state: dict[str, Any]) -> int:
        """Positions of the epoch that a state was taken in."""
        return self._global_length

    def _identity(self) -> dict[str, Any]:
        """The numbers that a state must agree on to be continued."""
        return {"length": self._global_length, "seed": self.seed}

    def _ranks(self) -> tuple[int, int]:
        """How many share the order, and which of them this is.

        Raises:
            ArgumentError: There is no such rank.
        """
        initialised = torch.distributed.is_available() and torch.distributed.is_initialized()
        world, rank = self._num_replicas, self._rank
        if world is None:
            world = torch.distributed.get_world_size() if initialised else 1
        if rank is None:
            rank = torch.distributed.get_rank() if initialised else 0
        if not 0 <= rank < at_least(1, world, "num_replicas"):
            raise ArgumentError(
                "there is no such rank", expected=f"0 to {world - 1} of {world} replicas", actual=str(rank)
            )
        return world, rank

    def _counts_epochs(self) -> bool:
        """Whether an epoch follows the last by itself."""
        return self._ranks()[0] == 1

    def set_epoch(self, epoch: int) -> None:
        """Make this the next epoch. Where a loaded state is in that very epoch, its position is kept.

        Args:
            epoch: 0 or more.
        """
        if epoch < 0:
            raise ArgumentError("an epoch is a number from 0", actual=str(epoch))
        if epoch != self._epoch:
            self._start = 0
        self._epoch, self._asked, self._pass = operator.index(epoch), True, None

    def state_dict(self) -> dict[str, Any]:
        """Where this is: plain numbers and a name, for `json` as for `torch.save`.

        It counts what has been taken out. Worker processes, which take batches ahead of the training loop,
        make it run ahead too.
        """
        epoch, position = self._epoch, self._start
        if self._pass is not None:
            epoch, position = self._pass.epoch, self._pass.position
        return {"sampler": type(self).__name__, "epoch": epoch, "position": position, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there, on any number of ranks: the next `iter()` begins where the state was taken.

        A state from the end of an epoch goes on with the next one, where epochs are counted or `set_epoch`
        asks for it, before or after; if `set_epoch` asks for the ended one, what is left of it is nothing.

        Raises:
            ArgumentError: The state is another sampler's, or one over other samples or with another seed.
        """
        mine = {"sampler": type(self).__name__, **self._identity()}
        if not isinstance(state, dict):
            raise ArgumentError("a state is a dict", actual=type(state).__name__)
        for key, value in mine.items():
            if state.get(key) != value:
                raise ArgumentError(
                    f"this state is of another {key.replace('_', ' ')}",
                    expected=str(value),
                    actual=str(state.get(key, "none")),
                    hint="Make the sampler as it was made when the state was taken, or begin anew.",
                )
        epoch, position = (natural(state, name) for name in ("epoch", "position"))
        length = self._length_in(state)
        if position > length:
            raise ArgumentError(
                "the state lies past the end", expected=f"a position to {length}", actual=str(position)
            )
        if self._asked and self._epoch > epoch and position == length:
            return
        self._epoch, self._start = epoch, position
        self._asked, self._pass = False, None

    def _begin(self) -> Pass:
        """Begin the next epoch, or what is left of it."""
        if self._start > 0 and self._start == self._global_length and not self._asked:
            self._epoch, self._start = self._epoch + self._counts_epochs(), 0
        self._pass = Pass(self, self._epoch, self._start)
        self._epoch, self._start = self._epoch + self._counts_epochs(), 0
        self._asked = False
        return self._pass

    def __len__(self) -> int:
        """Positions of this rank in a whole epoch."""
        world, _ = self._ranks()
        return turns(self._global_length, world, self.drop_last)

    def __getstate__(self) -> dict[str, Any]:
        now = self.state_dict()
        return {**self.__dict__, "_epoch": now["epoch"], "_start": now["position"], "_pass": None}


class Pass:
    """One rank's walk through an epoch, or through the rest of one."""

    def __init__(self, walker: Ordered, epoch: int, start: int) -> None:
        self.epoch = epoch
        self.order = walker._order(epoch)
        self._start = start
        self._length = walker._global_length
        self._world, self._rank = walker._ranks()
        self._turns = turns(self._length - start, self._world, walker.drop_last)
        self._turn = 0
        self._pending: Iterator[int] = iter(())  # turns taken that nobody has seen yet
        self.seen: int | None = None  # turns that somebody has seen, where batches are taken ahead of time
        self.least = 1  # turns that are worth anything: fewer at the end are left out

    @property
    def position(self) -> int:
        """Positions that all ranks have behind them, if all are where this one is."""
        seen = self._turn - operator.length_hint(self._pending) if self.seen is None else self.seen
        return self._length if self._turns - seen < self.least else self._start + seen * self._world

    def turn_of_all(self, turn: int) -> int:
        """Which of all ranks' turns in the epoch this rank's next one is after so many."""
        return self._start + turn * self._world + self._rank

    def advance(self, count: int) -> list[range]:
        """The next `count` positions of this rank, fewer at the end, none past it."""
        count = min(count, self._turns - self._turn)
        if count <= 0:
            return []
        first = self._start + self._turn * self._world + self._rank
        self._turn += count
        positions = range(first, first + count * self._world, self._world)
        inside = len(range(first, self._length, self._world))
        if inside >= count:
            return [positions]
        again = [position % self._length for position in positions[inside:]]
        return [positions[:inside], *(range(position, position + 1) for position in again)]

    def take(self, count: int) -> IndexArray:
        """The samples at the next `count` positions; an empty array past the end."""
        parts: list[IndexArray] = [
            self.order.take(at.start, len(at), at.step) for at in self.advance(count) if at
        ]
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int64), *parts])

    def one_by_one(self) -> Iterator[Iterator[int]]:
        """All samples as Python ints, in iterators of many."""
        while len(chunk := self.take(_CHUNK)):
            self._pending = iter(chunk.tolist())
            yield self._pending


class Sampler(Ordered, torch.utils.data.DistributedSampler[int]):
    """An order of single samples, for the `sampler` of any DataLoader or for a `BatchSampler`.

    One of torch's distributed samplers, so that frameworks see that the ranks have their shares already.

    Args:
        length: Samples of an epoch, over all ranks.
        options: As for `Ordered`.
    """

    def __init__(self, length: int, **options: Any) -> None:
        self._length = length
        super().__init__(**options)

    @property
    def _global_length(self) -> int:
        return self._length

    @abstractmethod
    def _order(self, epoch: int) -> Order: ...

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._chunks())

    def _chunks(self) -> Iterator[Iterator[int]]:
        """Begun when the first sample is asked for: torch's loaders make iterators that they never use."""
        yield from self._begin().one_by_one()


class BatchOrder(Ordered, torch.utils.data.BatchSampler):
    """An order of whole batches, for the `batch_sampler` of any DataLoader: one int64 array each.

    Each rank takes whole batches, in turn.

    Args:
        batch_size: Samples of a batch; None: they differ.
        options: As for `Ordered`.
    """

    def __init__(self, batch_size: int | None, **options: Any) -> None:
        self.batch_size = cast(Any, batch_size)
        super().__init__(**options)

    @property
    def sampler(self) -> Any:  # type: ignore[override]
        """Itself: frameworks look there for what has a `set_epoch`."""
        return self

    @abstractmethod
    def _order(self, epoch: int) -> Any:
        """Something with `batch(position)`."""

    def __iter__(self) -> Iterator[IndexArray]:  # type: ignore[override]
        yield from self.batches_of(self._begin())

    def batches_of(self, walk: Pass) -> Iterator[IndexArray]:
        """What is left of a pass."""
        while positions := walk.advance(1):
            yield walk.order.batch(positions[-1].start)


def natural(state: dict[str, Any], name: str) -> int:
    """A number from 0 in a state.

    Raises:
        ArgumentError: It is something else.
    """
    number = state.get(name)
    if isinstance(number, int) and not isinstance(number, bool) and number >= 0:
        return number
    raise ArgumentError(f"the state's {name} is no number from 0", actual=repr(number))


def turns(positions: int, world: int, drop_last: bool) -> int:
    """How often all ranks get a turn."""
    return positions // world if drop_last else -(-positions // world)


def at_least(least: int, number: int, name: str) -> int:
    """The number itself, as a plain int.

    Raises:
        ArgumentError: It is less.
        SchemaError: It is no whole number.
    """
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        raise SchemaError(f"{name} is no whole number", actual=repr(number))
    if operator.index(number) < least:
        raise ArgumentError(f"{name} is too small", expected=f"{least} or more", actual=str(number))
    return operator.index(number)


def length_of(data_source: Sized | int) -> int:
    """How many samples: of a dataset, or the number itself."""
    length = len(data_source) if isinstance(data_source, Sized) else data_source
    return at_least(0, length, "the number of samples")


def seed_bits(seed: int) -> int:
    """Any int as the core takes it."""
    return seed & 0xFFFF_FFFF_FFFF_FFFF


def fingerprint(array: npt.NDArray[Any], so_far: int = 0) -> int:
    """A number that tells one array's bytes from another's: CRC-32."""
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, so_far)
