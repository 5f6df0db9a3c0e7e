"""Batches of samples of like length."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from penstock import _core
from penstock.errors import ArgumentError, SchemaError
from penstock.samplers.base import BatchOrder, IndexArray, at_least, fingerprint, natural, seed_bits, turns

__all__ = ["LengthBatchSampler"]

Lengths: TypeAlias = Any
"""Lengths, one a sample: an array, tensor or list of ints, or a dataset that has them as `lengths`."""

_MOST_RANKS = 2**32


class LengthBatchSampler(BatchOrder):
    """Batches of samples of like length, so that little is padded; each sample once.

    Samples lie sorted by length, in buckets in which all are about as long as the longest. Each epoch they
    are shuffled inside their bucket and cut into batches, and the batches are shuffled. How many a bucket has
    follows from its longest sample alone, so every epoch has the same number of batches, each within
    `max_tokens`. What is left of the shortest samples is the last batch, which is smaller.

    At every turn the batches of all ranks are from one bucket, so that they take equally long, and all ranks
    have the same number of them. (So the batches depend on how many ranks there are. A state remembers that,
    and is continued to the end of its epoch in the batches it was begun with, on any number of ranks.) The
    last turn, of what is left, is dealt out evenly to all ranks; fewer samples than ranks are given out
    again.

    No sample is read: only the lengths count. 8 bytes a sample, and 16 for each different length.

    Args:
        lengths: One a sample, shape (samples,): an array, tensor or list of ints from 0, or a dataset with
            `lengths`.
        batch_size: Most samples of a batch, on each rank. Default: as many as `max_tokens` lets.
        max_tokens: Most elements of a padded batch: its samples times the longest, which counts as 1 at
            least. Default: any number.
        pad_to_multiple: Batches are padded to a multiple of this, as by `Collate`. Default: to the longest.
        bucket_spread: How much shorter than the longest of its bucket a sample may be, as a share of that.
            More mixes more and pads more. A bucket holds two batches at least, and one of each rank. Default:
            0.1.
        shuffle: Else batches are sorted, longest first. Default: True.
        longest_first: Begin each epoch with the batch of the longest samples, so that what does not fit into
            memory fails at once. Default: False.
        drop_last: Leave out the last, smaller batch (of several ranks: all of the last turn). Default: False.
        seed: Another seed, other batches. Default: 0.
        num_replicas: Ranks that share the batches. Default: torch.distributed's, if initialised, else 1.
        rank: Which of them this is. Default: likewise.

    Raises:
        ArgumentError: Neither `batch_size` nor `max_tokens` is given, or one is not positive. A length is
            negative, or greater than `max_tokens` when padded: its sample is named as `row`. `bucket_spread`
            is not within 0 to 1.
        SchemaError: The lengths are not whole numbers in one dimension.
    """

    def __init__(
        self,
        lengths: Lengths,
        batch_size: int | None = None,
        max_tokens: int | None = None,
        *,
        pad_to_multiple: int | None = None,
        bucket_spread: float = 0.1,
        shuffle: bool = True,
        longest_first: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        self._by_length = _core.ClassIndex(_as_lengths(lengths))
        self.max_tokens = None if max_tokens is None else at_least(1, max_tokens, "max_tokens")
        self.pad_to_multiple = at_least(
            1, 1 if pad_to_multiple is None else pad_to_multiple, "pad_to_multiple"
        )
        self.bucket_spread = float(bucket_spread)
        self.shuffle = bool(shuffle)
        self.longest_first = bool(longest_first)
        self._cuts: dict[int, _core.LengthBatches] = {}  # by the number of ranks
        self._begun_by = 0  # ranks of the epoch that a loaded state is in
        super().__init__(
            None if batch_size is None else at_least(1, batch_size, "batch_size"),
            seed=seed,
            num_replicas=num_replicas,
            rank=rank,
            drop_last=bool(drop_last),
        )
        self._cut_for(self._ranks()[0])

    def _cut_for(self, ranks: int) -> _core.LengthBatches:
        """The batches when so many ranks share them."""
        if ranks not in self._cuts:
            self._cuts[ranks] = _core.LengthBatches(
                self._by_length,
                self.batch_size or 0,
                self.max_tokens or 0,
                self.pad_to_multiple,
                ranks,
                self.bucket_spread,
                self.shuffle,
                self.longest_first,
                self.drop_last,
            )
        return self._cuts[ranks]

    @property
    def _sharing(self) -> int:
        """Ranks that the next pass has batches for."""
        return self._begun_by if self._start > 0 else self._ranks()[0]

    @property
    def _global_length(self) -> int:
        return self._cut_for(self._sharing).num_batches

    def _length_in(self, state: dict[str, Any]) -> int:
        ranks = natural(state, "ranks")
        if not 1 <= ranks <= _MOST_RANKS:
            raise ArgumentError("no such number of ranks has begun this epoch", actual=str(ranks))
        return self._cut_for(ranks).num_batches

    def _order(self, epoch: int) -> _Epoch:
        return _Epoch(self._cut_for(self._sharing), self._sharing, seed_bits(self.seed), epoch)

    def _identity(self) -> dict[str, Any]:
        return {
            "lengths": self._fingerprint,
            "seed": self.seed,
            "batch_size": self.batch_size or 0,
            "max_tokens": self.max_tokens or 0,
            "pad_to_multiple": self.pad_to_multiple,
            "bucket_spread": repr(self.bucket_spread),
            "shuffle": int(self.shuffle),
            "longest_first": int(self.longest_first),
        }

    @functools.cached_property
    def _fingerprint(self) -> int:
        index = self._by_length
        return fingerprint(index.samples, fingerprint(index.first, fingerprint(index.labels)))

    def state_dict(self) -> dict[str, Any]:
        """See `Ordered`; and the number of ranks that the epoch was begun with."""
        ranks = self._sharing if self._pass is None else self._pass.order.ranks
        return {**super().state_dict(), "ranks": ranks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Ordered`."""
        super().load_state_dict(state)
        if not self._asked:  # else it is the end of another epoch than the one asked for
            self._begun_by = state["ranks"]

    def __len__(self) -> int:
        """Batches of this rank in a whole epoch; the same in every one."""
        world, _ = self._ranks()
        return turns(self._cut_for(world).num_batches, world, self.drop_last)

    def __getstate__(self) -> dict[str, Any]:
        index = self._by_length
        lengths = np.empty(len(index.samples), np.int64)
        lengths[index.samples] = np.repeat(index.labels, np.diff(index.first))
        begun_by = self.state_dict()["ranks"]
        return {**super().__getstate__(), "_by_length": lengths, "_cuts": {}, "_begun_by": begun_by}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _by_length=_core.ClassIndex(state["_by_length"]))


class _Epoch:
    """The batches of one epoch."""

    def __init__(self, cut: _core.LengthBatches, ranks: int, seed: int, epoch: int) -> None:
        self.ranks = ranks
        self._cut = cut
        self._seed = seed
        self._epoch = epoch

    def batch(self, number: int) -> IndexArray:
        return self._cut.batch(number, self._seed, self._epoch)


def _as_lengths(lengths: Any) -> IndexArray:
    """Lengths as the core takes them.

    Raises:
        SchemaError: They are something else.
    """
    if not isinstance(lengths, Sequence) and not hasattr(lengths, "__array__"):
        if not hasattr(lengths, "lengths"):  # numpy would read every sample of a dataset
            raise SchemaError("these are no lengths, and no dataset that has them", actual=repr(lengths))
        lengths = lengths.lengths
    array = lengths.detach().cpu().numpy() if isinstance(lengths, Tensor) else np.asarray(lengths)
    if array.size == 0 and array.ndim == 1:
        return array.astype(np.int64)
    fits = array.dtype.kind in "iu" and (array.dtype != np.uint64 or array.max(initial=0) < 2**63)
    if array.ndim != 1 or not fits:
        raise SchemaError(
            "lengths must be whole numbers, one a sample",
            expected="one dimension of ints",
            actual=f"{array.dtype} of shape {array.shape}",
        )
    return np.ascontiguousarray(array, np.int64)
