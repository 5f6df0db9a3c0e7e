"""Batches for a training loop."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader

from penstock.collate import collate
from penstock.errors import ArgumentError
from penstock.samplers import BatchSampler, ClassIndex, SequentialSampler, ShuffleSampler
from penstock.samplers.classes import Label, Targets
from penstock.splits import subset_of

__all__ = ["class_loaders"]


def class_loaders(
    dataset: Any,
    batch_size: int = 1,
    shuffle: bool = False,
    *,
    drop_last: bool = False,
    targets: Targets | None = None,
    seed: int = 0,
    collate_fn: Any = collate,
    pin_memory: bool = False,
) -> dict[Label, DataLoader[Any]]:
    """A loader for every class.

    They have no worker processes and share the core's threads, so a thousand cost no more than ten. Each is a
    standard `DataLoader` whose `batch_sampler` has `set_epoch` and a state, and whose `dataset` is the class.

    Args:
        dataset: A Penstock dataset, or any other when `targets` are given.
        batch_size: Samples of a batch. Default: 1.
        shuffle: Each epoch in another order. Default: False.
        drop_last: Leave out a last batch that is shorter. Default: False.
        targets: Labels, shape (len(dataset),): see `ClassIndex`. Default: `dataset.targets`.
        seed: Of the shuffle. Default: 0.
        collate_fn: As in DataLoader. Default: `penstock.collate`.
        pin_memory: As in DataLoader. Default: False.

    Returns:
        A dict from label to loader, in the order of the labels.

    Raises:
        ArgumentError: There are more labels than samples, or fewer. `batch_size` is not positive.
        AttributeError: No field holds class labels, and none are given.
    """
    index = ClassIndex.of(dataset.targets if targets is None else targets)
    if index.num_samples != len(dataset):
        raise ArgumentError(
            "the labels are not one a sample",
            expected=f"{len(dataset)} labels",
            actual=str(index.num_samples),
        )
    loaders = {}
    for k, label in enumerate(index):
        view = subset_of(dataset, index[label])
        sampler = ShuffleSampler(view, seed=seed + k) if shuffle else SequentialSampler(view)
        loaders[label] = DataLoader(
            view,
            batch_sampler=BatchSampler(sampler, batch_size, drop_last),
            collate_fn=collate_fn,
            pin_memory=pin_memory,
        )
    return loaders
