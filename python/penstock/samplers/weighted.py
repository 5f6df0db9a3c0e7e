"""Samples drawn by weight."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from penstock import _core
from penstock.errors import SchemaError
from penstock.samplers.base import IndexArray, Order, Sampler, at_least, fingerprint, seed_bits

__all__ = ["WeightedSampler"]


class _Draws:
    """Draw number i, with replacement, in one epoch."""

    def __init__(self, table: _core.AliasTable, seed: int, epoch: int) -> None:
        self._table = table
        self._seed = seed
        self._epoch = epoch

    def take(self, first: int, count: int, step: int = 1) -> IndexArray:
        return self._table.draw(first, count, step, self._seed, self._epoch)


class _Drawn:
    """Draws that have been made."""

    def __init__(self, samples: IndexArray) -> None:
        self._samples = samples

    def take(self, first: int, count: int, step: int = 1) -> IndexArray:
        return self._samples[first : first + count * step : step].copy()


class WeightedSampler(Sampler):
    """Samples drawn at random, each as often as its weight says.

    With replacement, by the alias method: 16 bytes a weight, built at the first use, then constant time a
    draw; every draw is a function of (seed, epoch, its number). Without, exactly as drawing one after the
    other among those that are left would (an exponential variable for each sample, made anew each epoch: time
    and 16 bytes a sample). Any number of weights; torch's `WeightedRandomSampler` ends at 2**24.

    Args:
        weights: How likely each sample is, shape (samples,): numbers from 0, need not add up to 1.
        num_samples: Draws in an epoch, over all ranks.
        replacement: Whether a sample may come again. Default: True.
        seed: Another seed, other draws. Default: 0.
        num_replicas: Ranks that share the draws. Default: torch.distributed's, if initialised, else 1.
        rank: Which of them this is. Default: likewise.
        drop_last: Leave out what does not go round the ranks, instead of repeating the first. Default: False.

    Raises:
        ArgumentError: A weight is negative or not finite, all are zero, or there are too few positive ones to
            draw `num_samples` without replacement. `num_samples` is not positive.
        SchemaError: The weights are not numbers in one dimension.
    """

    def __init__(
        self,
        weights: Tensor | npt.ArrayLike | Sequence[float],
        num_samples: int,
        replacement: bool = True,
        *,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
        drop_last: bool = False,
    ) -> None:
        num_samples = at_least(1, num_samples, "num_samples")
        self.weights = _as_weights(weights)
        self.num_samples = num_samples
        self.replacement = replacement
        self._table: _core.AliasTable | None = None
        super().__init__(num_samples, seed=seed, num_replicas=num_replicas, rank=rank, drop_last=drop_last)
        _core.require_weights(self.weights, 0 if replacement else num_samples)

    @property
    def repeats(self) -> bool:
        """See `Ordered`."""
        return self.replacement

    def _order(self, epoch: int) -> Order:
        seed = seed_bits(self.seed)
        if not self.replacement:
            return _Drawn(_core.draw_without_replacement(self.weights, self.num_samples, seed, epoch))
        if self._table is None:
            self._table = _core.AliasTable(self.weights)
        return _Draws(self._table, seed, epoch)

    def _identity(self) -> dict[str, int]:
        own = {"weights": self._fingerprint, "replacement": int(self.replacement)}
        return {**super()._identity(), **own}

    @functools.cached_property
    def _fingerprint(self) -> int:
        return fingerprint(self.weights)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_table": None}


def _as_weights(weights: Any) -> npt.NDArray[np.float64]:
    if isinstance(weights, Tensor) and weights.is_floating_point():
        weights = weights.detach().to("cpu", torch.float64)
    array = weights.cpu().numpy() if isinstance(weights, Tensor) else np.asarray(weights)
    if array.ndim != 1 or array.dtype.kind not in "fiub":
        raise SchemaError(
            "weights must be numbers, one a sample",
            expected="one dimension of floats",
            actual=f"{array.dtype} of shape {array.shape}",
        )
    return np.array(array, np.float64)
