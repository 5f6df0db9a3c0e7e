"""Orders of single samples: as they come, shuffled, shuffled block by block; and batches of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import Any

import numpy as np
import torch.distributed
import torch.utils.data

from penstock import _core
from penstock.errors import ArgumentError, SchemaError
from penstock.samplers.base import (
    AsTheyCome,
    IndexArray,
    Order,
    Pass,
    Sampler,
    at_least,
    fingerprint,
    length_of,
    seed_bits,
    turns,
)
from penstock.samplers.lookahead import looking_ahead

__all__ = ["BatchSampler", "BlockShuffleSampler", "DistributedSampler", "SequentialSampler", "ShuffleSampler"]

_AT_ONCE = 8192  # samples of small batches


class SequentialSampler(Sampler):
    """Samples 0, 1, 2, ...: each once.

    Args:
        data_source: A dataset, or how many samples there are.
        num_replicas: Ranks that share them. Default: torch.distributed's, if initialised, else 1.
        rank: Which of them this is. Default: likewise.
        drop_last: Leave out what does not go round the ranks, instead of repeating the first. Default: False.
    """

    def __init__(
        self,
        data_source: Sized | int,
        *,
        num_replicas: int | None = None,
        rank: int | None = None,
        drop_last: bool = False,
    ) -> None:
        super().__init__(length_of(data_source), num_replicas=num_replicas, rank=rank, drop_last=drop_last)

    def _order(self, epoch: int) -> Order:
        return AsTheyCome()


class ShuffleSampler(Sampler):
    """Every sample once, in a random order that is another one each epoch.

    The order is a keyed permutation, computed and not stored (`csrc/order/permutation.h` says how): no memory
    and no start-up, whether there are ten samples or 10**12, and any position at once, which is what makes it
    resumable. The same (seed, epoch) gives the same order on every machine. Statistically it is a shuffle; it
    is not cryptographic, and from some twenty samples on not every one of the n! orders can come up, as with
    any 64-bit seed.

    Args:
        data_source: A dataset, or how many samples there are: up to 2**62.
        seed: Another seed, another order. Default: 0.
        num_replicas: Ranks that share the samples. Default: torch.distributed's, if initialised, else 1.
        rank: Which of them this is. Default: likewise.
        drop_last: Leave out what does not go round the ranks, instead of repeating the first. Default: False.
    """

    def __init__(
        self,
        data_source: Sized | int,
        *,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
        drop_last: bool = False,
    ) -> None:
        super().__init__(
            length_of(data_source), seed=seed, num_replicas=num_replicas, rank=rank, drop_last=drop_last
        )

    def _order(self, epoch: int) -> Order:
        return _core.Permutation(self._global_length, seed_bits(self.seed), epoch)


class DistributedSampler(Sampler):
    """torch's `DistributedSampler`, resumable and without an index list in memory.

    Rank r of R takes positions r, r + R, ... of one shuffled order, so that batch k of all ranks together is
    batch k of that order. The order is not torch's. Call `set_epoch` before each epoch, as there.

    Args:
        dataset: What to sample from.
        num_replicas: Ranks that share it. Default: torch.distributed's world size.
        rank: Which of them this is. Default: torch.distributed's.
        shuffle: Else samples come in their own order. Default: True.
        seed: The same on all ranks. Default: 0.
        drop_last: Leave out what does not go round, instead of repeating the first samples. Default: False.

    Raises:
        ValueError: `num_replicas` or `rank` is not given and torch.distributed is not initialised.
    """

    def __init__(
        self,
        dataset: Sized | int,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if num_replicas is None:
            num_replicas = torch.distributed.get_world_size()
        if rank is None:
            rank = torch.distributed.get_rank()
        super().__init__(
            length_of(dataset), seed=seed, num_replicas=num_replicas, rank=rank, drop_last=drop_last
        )
        self.dataset = dataset  # type: ignore[assignment]
        self.num_replicas = num_replicas
        self.rank = rank
        self.shuffle = shuffle
        self.num_samples = len(self)
        self.total_size = self.num_samples * num_replicas

    @property
    def epoch(self) -> int:  # type: ignore[override]
        """The epoch that was set last."""
        return self._epoch

    def _order(self, epoch: int) -> Order:
        if not self.shuffle:
            return AsTheyCome()
        return _core.Permutation(self._global_length, seed_bits(self.seed), epoch)

    def _identity(self) -> dict[str, int]:
        return {**super()._identity(), "shuffle": int(self.shuffle)}

    def _counts_epochs(self) -> bool:
        return False


class _ReadAhead:
    """A block order that has its blocks read a window before their samples are needed."""

    def __init__(self, order: _core.BlockOrder, dataset: Any, window: int) -> None:
        self._order = order
        self._dataset = dataset
        self._window = window
        self._asked: int | None = None  # positions whose blocks have been asked for

    def take(self, first: int, count: int, step: int = 1) -> IndexArray:
        last = first + (count - 1) * step
        if self._asked is None:
            self._asked = first // self._window * self._window
        wanted = min(last + self._window, self._order.num_rows)
        if wanted > self._asked:
            starts, counts, self._asked = self._order.blocks(self._asked, wanted)
            self._dataset.will_need(starts, counts)
        return self._order.take(first, count, step)


class BlockShuffleSampler(Sampler):
    """Every sample once, shuffled in a way that a cold disk can follow.

    The files are cut into blocks of neighbouring samples, the blocks are put in a random order, and samples
    are mixed inside a window that moves over them: the disk reads blocks, and only a window need be in memory
    at a time. The price is mixing, because a batch comes from the blocks of one window. At worst, when
    samples lie sorted in the files, batch means vary as much as those of a full shuffle times

        1 + batch_size / (window_bytes / block_bytes)

    in variance (measured: 2.0 for batches of 1,024 and 1,024 blocks in a window, 5 for 256, 17 for 64). So
    few large blocks are bad and many small ones good; with the defaults and batches of 256 it is 2. Where
    samples lie in no order that matters, it is 1.

    Args:
        dataset: A Penstock dataset. (Blocks of a `Subset` are cut in its own order.)
        window_bytes: What is mixed at a time. Default: 2**30.
        block_bytes: What is read in one go. Default: 2**22.
        seed: Another seed, another order. Default: 0.
        num_replicas: Ranks that share the samples. Default: torch.distributed's, if initialised, else 1.
        rank: Which of them this is. Default: likewise.
        drop_last: Leave out what does not go round the ranks, instead of repeating the first. Default: False.

    Raises:
        ArgumentError: A block holds no byte, or is larger than the window.
        SchemaError: The dataset is not Penstock's.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        window_bytes: int = 2**30,
        block_bytes: int = 2**22,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
        drop_last: bool = False,
    ) -> None:
        if not 0 < block_bytes <= window_bytes:
            raise ArgumentError(
                "a block must hold something and fit into a window",
                expected=f"1 to {window_bytes} bytes",
                actual=str(block_bytes),
            )
        if not hasattr(dataset, "shard_lengths"):
            raise SchemaError(
                "the blocks are cut along the files of a Penstock dataset", actual=type(dataset).__name__
            )
        sample_bytes = max(1, sum(field.bytes for field in dataset.schema) // max(1, len(dataset)))
        self._dataset = dataset
        self._shard_lengths: IndexArray = dataset.shard_lengths
        self.window_samples = max(1, window_bytes // sample_bytes)
        self.block_samples = max(1, block_bytes // sample_bytes)
        super().__init__(len(dataset), seed=seed, num_replicas=num_replicas, rank=rank, drop_last=drop_last)

    def _order(self, epoch: int) -> Order:
        order = _core.BlockOrder(
            self._shard_lengths, self.block_samples, self.window_samples, seed_bits(self.seed), epoch
        )
        return _ReadAhead(order, self._dataset, self.window_samples)

    def _identity(self) -> dict[str, int]:
        return {
            **super()._identity(),
            "shards": fingerprint(self._shard_lengths),
            "block_samples": self.block_samples,
            "window_samples": self.window_samples,
        }


class ForeignPass:
    """A pass through a sampler that is not ours."""

    def __init__(self, samples: Iterable[int]) -> None:
        self._samples = iter(samples)
        self.seen: int | None = None
        self.least = 1

    def take(self, count: int) -> IndexArray:
        """The next `count` samples, fewer at the end."""
        return np.fromiter(islice(self._samples, count), np.int64)


class BatchSampler(torch.utils.data.BatchSampler):
    """Batches out of an order of samples, one int64 array each: for the `batch_sampler` of any DataLoader.

    With one of Penstock's samplers a batch is one call into the core, and its epochs, ranks and state are
    this one's too. (The position is counted in samples, so a state may be continued with another batch size.)
    Any other sampler, or iterable of ints, works too, without a state.

    Args:
        sampler: An order of samples, or a dataset (or a number) to go through from 0.
        batch_size: Samples of a batch, on each rank.
        drop_last: Leave out a last batch that is shorter. Default: False.
        lookahead: Batches that each batch has in sight. A Penstock dataset in the same process
            (`num_workers=0`) has the core's threads assemble them while the training loop is busy. Default:
            0.

    Raises:
        ArgumentError: `batch_size` is not positive.
        SchemaError: `sampler` makes batches already.
    """

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool = False, *, lookahead: int = 0) -> None:
        if isinstance(sampler, torch.utils.data.BatchSampler):
            raise SchemaError("this sampler makes batches already", actual=type(sampler).__name__)
        is_source = isinstance(sampler, (int, torch.utils.data.Dataset))
        self.sampler: Iterable[int] = SequentialSampler(sampler) if is_source else sampler
        self.batch_size = at_least(1, batch_size, "batch_size")
        self.lookahead = at_least(0, lookahead, "lookahead")
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[IndexArray]:  # type: ignore[override]
        walk = self.sampler._begin() if isinstance(self.sampler, Sampler) else ForeignPass(self.sampler)
        batches = self.batches_of(walk)
        if not self.lookahead:
            yield from batches
            return

        def remember(samples: int) -> None:
            walk.seen = samples

        yield from looking_ahead(batches, self.lookahead, remember)

    def batches_of(self, walk: Pass | ForeignPass) -> Iterator[IndexArray]:
        """What is left of a pass, in batches; several taken at a time where somebody counts what is seen."""
        size = self.batch_size
        walk.least = size if self.drop_last else 1
        at_once = size if walk.seen is None else size * max(1, _AT_ONCE // size)
        while len(samples := walk.take(at_once)):
            for begin in range(0, len(samples), size):
                if begin + size <= len(samples) or not self.drop_last:
                    yield samples[begin : begin + size]

    def __len__(self) -> int:
        return turns(len(self.sampler), self.batch_size, self.drop_last)  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        """Make this the next epoch of the sampler, if it knows epochs."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def __getattr__(self, name: str) -> Any:
        """`state_dict` and `load_state_dict`: the sampler's, where it has them."""
        if name not in ("state_dict", "load_state_dict"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if not hasattr(self.sampler, name):
            raise AttributeError(f"a {type(self.sampler).__name__} has no {name}: penstock's samplers do")
        return getattr(self.sampler, name)
