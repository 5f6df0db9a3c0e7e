"""Datasets of which something is random."""

from __future__ import annotations

import torch

from penstock import _core
from penstock.datasets.base import Dataset
from penstock.samplers.base import at_least, seed_bits

__all__ = ["InEpochs"]


class InEpochs(Dataset):
    """Samples that are drawn at random, by a seed, the epoch and their number.

    Attributes:
        seed: Of what is random.
    """

    seed: int
    _epoch: int | None = None

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next: with `seed` and its number it decides how a sample is cropped.

        `penstock.DataLoader` needs no such call where it loads natively: it goes by its sampler's epoch. In
        any other loader, crops are drawn from torch's random numbers until this is called. Worker processes
        that persist do not hear of it.

        Args:
            epoch: 0 or more.
        """
        self._epoch = at_least(0, epoch, "epoch")

    def random_key(self, epoch: int | None = None) -> int:
        """See `Dataset.random_key`."""
        epoch = self._epoch if epoch is None else epoch
        if epoch is None:
            return int(torch.empty((), dtype=torch.int64).random_().item())
        return _core.derive_key(seed_bits(self.seed), epoch)
