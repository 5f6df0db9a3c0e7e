"""Datasets cut into parts: for training and validation, at random, by class, by group, in folds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.utils.data

from penstock import _core
from penstock.errors import ArgumentError
from penstock.samplers.base import IndexArray, seed_bits
from penstock.samplers.classes import ClassIndex, Targets

__all__ = ["kfold", "random_split", "subset_of"]


def random_split(
    dataset: Any,
    lengths: Sequence[int] | Sequence[float],
    stratify: Targets | bool | None = None,
    seed: int | None = None,
    *,
    groups: Targets | None = None,
    generator: torch.Generator | None = None,
) -> list[Any]:
    """Cut a dataset at random into parts that do not overlap, as torch's `random_split`.

    The samples of a part are in the dataset's order, so that going through a validation set reads its files
    from front to back. With a `generator` the parts are those of torch's `random_split`, sample by sample,
    in the order that it has shuffled them into.

    Args:
        dataset: A Penstock dataset, or any other with a length.
        lengths: Samples of each part; or fractions that sum to 1: what does not come out even goes to the
            first parts.
        stratify: Labels, one a sample (see `ClassIndex`), or True for `dataset.targets`: every part gets its
            share of every class, rounded up or down. Default: None, samples fall where they may.
        seed: The same seed, the same parts. Default: from torch's random numbers, so that `torch.manual_seed`
            decides.
        groups: A group for each sample (see `ClassIndex`), as patients of images: no group is torn apart.
            `lengths` are then met as nearly as the groups allow, and so is `stratify`. Default: every sample
            for itself.
        generator: Where torch's permutation comes from; without `stratify`, `seed` and `groups`, which torch
            does not know. Default: none, `seed` decides.

    Returns:
        A `Subset` for each length; of a dataset that is not Penstock's a `torch.utils.data.Subset`.

    Raises:
        ArgumentError: The lengths do not sum to the dataset's, labels or groups are not one a sample, the
            groups leave a part empty, or a generator is given together with what torch does not know.
        SchemaError: The labels or groups are no ints or strings.
    """
    counts = _counts(len(dataset), lengths)
    if generator is not None:
        if not (stratify is None or stratify is False) or seed is not None or groups is not None:
            raise ArgumentError(
                "generator= cuts as torch does, which knows no stratify=, seed= or groups=",
                hint="For those, give seed= and leave generator= out.",
            )
        order = torch.randperm(len(dataset), generator=generator).numpy()
        return [subset_of(dataset, part) for part in np.split(order, np.cumsum(counts))[: len(counts)]]
    part_of = _parts(dataset, counts, stratify, groups, seed)
    return [subset_of(dataset, np.flatnonzero(part_of == part)) for part in range(len(counts))]


def kfold(
    dataset: Any,
    k: int = 5,
    stratify: Targets | bool | None = None,
    seed: int | None = None,
    *,
    groups: Targets | None = None,
) -> list[tuple[Any, Any]]:
    """Cut a dataset at random into `k` folds of like size, for cross-validation.

    Args:
        dataset: A Penstock dataset, or any other with a length.
        k: How many, 2 to len(dataset). Default: 5.
        stratify: As in `random_split`.
        seed: As in `random_split`.
        groups: As in `random_split`.

    Returns:
        k pairs (training, validation): every sample is in the validation part of exactly one.

    Raises:
        ArgumentError: As in `random_split`, or `k` is not in its range.
        SchemaError: As in `random_split`.
    """
    if not 2 <= k <= len(dataset):
        raise ArgumentError("there cannot be so many folds", expected=f"2 to {len(dataset)}", actual=str(k))
    fold_of = _parts(dataset, _counts(len(dataset), [1 / k] * k), stratify, groups, seed)
    return [
        (
            subset_of(dataset, np.flatnonzero(fold_of != fold)),
            subset_of(dataset, np.flatnonzero(fold_of == fold)),
        )
        for fold in range(k)
    ]


def subset_of(dataset: Any, indices: IndexArray) -> Any:
    """Some samples of any dataset: native where it is ours."""
    if hasattr(dataset, "subset"):
        return dataset.subset(indices)
    return torch.utils.data.Subset(dataset, indices.tolist())


def _counts(total: int, lengths: Sequence[int] | Sequence[float]) -> list[int]:
    """Samples of each part.

    Raises:
        ArgumentError: They do not add up.
    """
    if any(not math.isfinite(length) or length < 0 for length in lengths):
        raise ArgumentError("a part cannot have such a length", actual=str(list(lengths)))
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1 + 1e-6:
        counts = [math.floor(total * fraction) for fraction in lengths]
        for i in range(total - sum(counts)):
            counts[i % len(counts)] += 1
        return counts
    if sum(lengths) != total or any(length != int(length) for length in lengths):
        raise ArgumentError(
            "the lengths do not sum to the dataset's",
            expected=f"{total}, or fractions that sum to 1",
            actual=f"{sum(lengths)}",
        )
    return [int(length) for length in lengths]


def _parts(
    dataset: Any, counts: list[int], stratify: Any, groups: Any, seed: int | None
) -> npt.NDArray[np.intp]:
    """The part of each sample."""
    total = len(dataset)
    if seed is None:
        seed = int(torch.empty((), dtype=torch.int64).random_().item())
    shuffled = _core.Permutation(total, seed_bits(seed), 0).take(0, total)
    classes = _numbers(dataset.targets if stratify is True else stratify, dataset, "labels")
    if groups is not None:
        return _group_parts(_numbers(groups, dataset, "groups"), classes, counts, shuffled)
    index = _core.ClassIndex(classes[shuffled])
    order = _core.Permutation(len(counts), seed_bits(seed), 1).take(0, len(counts))
    shares = _shares(np.diff(index.first), np.array(counts), order)
    part_of = np.empty(total, np.intp)
    part_of[shuffled[index.samples]] = np.repeat(np.tile(np.arange(len(counts)), len(shares)), shares.ravel())
    return part_of


def _shares(sizes: IndexArray, counts: IndexArray, order: IndexArray) -> IndexArray:
    """Samples of each class for each part, shape (classes, parts): the exact share rounded up or down.

    What rounding down leaves of a class goes, one each, to the parts that still lack most, which always comes
    out even (Gale 1957); `order` decides between equals.
    """
    if np.ptp(counts) <= 1:
        shares = np.repeat(sizes[:, None] // len(counts), len(counts), axis=1)
    else:
        shares = np.outer(sizes, counts) // max(1, counts.sum())
    lacking = counts - shares.sum(axis=0)
    for k in np.flatnonzero(sizes > shares.sum(axis=1)):
        parts = np.lexsort((order, -lacking))[: sizes[k] - shares[k].sum()]
        shares[k, parts] += 1
        lacking[parts] -= 1
    return shares


def _numbers(labels: Any, dataset: Any, name: str) -> IndexArray:
    """Labels as numbers from 0; all of one class where there are none.

    Raises:
        ArgumentError: They are not one a sample.
    """
    if labels is None or labels is False:
        return np.zeros(len(dataset), np.int64)
    index = ClassIndex.over(dataset, labels, name)
    numbers = np.empty(len(dataset), np.int64)
    numbers[index.core.samples] = np.repeat(np.arange(len(index)), index.counts)
    return numbers


def _group_parts(
    groups: IndexArray, classes: IndexArray, counts: list[int], shuffled: IndexArray
) -> npt.NDArray[np.intp]:
    """The largest groups first, each to the part that still needs its classes most.

    The need is what a part lacks of a class, in shares of that class: the choice that brings the sum of
    squares of what is lacking down the furthest. Between equals, what a part lacks in all decides; and no
    part is left empty for whose sake a group could be spared.
    """
    sizes = np.bincount(groups)
    of_class = np.bincount(classes)
    lacking = np.outer(np.array(counts) / max(1, len(groups)), of_class)
    pairs, in_pair = np.unique(groups * len(of_class) + classes, return_counts=True)
    pair_group, pair_class = np.divmod(pairs, max(1, len(of_class)))
    first = np.searchsorted(pair_group, np.arange(len(sizes) + 1))
    _, rank = np.unique(groups[shuffled], return_index=True)  # a random order of groups of one size
    part_of_group = np.empty(len(sizes), np.intp)
    empty = np.array(counts) > 0
    for done, group in enumerate(np.lexsort((rank, -sizes))):
        its = slice(first[group], first[group + 1])
        its_classes = pair_class[its]
        need = lacking[:, its_classes] @ (in_pair[its] / of_class[its_classes])
        need += 1e-9 * lacking.sum(axis=1) / len(groups)
        if empty.sum() >= len(sizes) - done:
            need[~empty] = -np.inf
        part = int(np.argmax(need))
        empty[part] = False
        lacking[part, its_classes] -= in_pair[its]
        part_of_group[group] = part
    if empty.any():
        raise ArgumentError(
            f"part {int(np.argmax(empty))} gets no group",
            expected=f"at least {sum(count > 0 for count in counts)} groups",
            actual=str(len(sizes)),
        )
    return part_of_group[groups]
