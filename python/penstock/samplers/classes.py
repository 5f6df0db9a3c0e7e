"""Samples by class: the index, orders of one class, and batches put together by class."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from penstock import _core
from penstock.errors import ArgumentError, SchemaError
from penstock.samplers.base import (
    AsTheyCome,
    BatchOrder,
    IndexArray,
    Order,
    Sampler,
    at_least,
    fingerprint,
    seed_bits,
    turns,
)

__all__ = ["BalancedBatchSampler", "ClassIndex", "ClassSampler", "EpisodeSampler", "StratifiedBatchSampler"]

Label: TypeAlias = int | str
"""What a class is called in the labels."""

Targets: TypeAlias = Any
"""Labels, one a sample: an array, tensor or list of ints or strings, a dataset with them, a `ClassIndex`."""


class ClassIndex(Mapping[Label, IndexArray]):
    """Which samples belong to which class: a mapping from label to sample numbers, ascending.

    Made in one counting pass; 8 bytes a sample. Classes are in the order of their labels: whatever ints, or
    strings.

    Args:
        targets: Labels, shape (samples,): an array, tensor or list of ints, bools or strings, or a dataset
            with `targets`.

    Raises:
        SchemaError: The labels are something else, or not in one dimension.
    """

    def __init__(self, targets: Targets) -> None:
        labels = _as_labels(targets)
        names: Any = None
        if labels.dtype.kind in "US":
            names, labels = np.unique(labels, return_inverse=True)
        self.core = _core.ClassIndex(np.ascontiguousarray(labels, np.int64))
        numbers = self.core.labels
        self.labels: list[Label] = (numbers if names is None else names[numbers]).tolist()
        self._numbers = {label: k for k, label in enumerate(self.labels)}

    @classmethod
    def of(cls, targets: Targets) -> ClassIndex:
        """`targets` itself, if it is an index already."""
        return targets if isinstance(targets, ClassIndex) else cls(targets)

    @classmethod
    def over(cls, dataset: Sized, targets: Targets, name: str = "labels") -> ClassIndex:
        """The same, for labels that must be one a sample.

        Raises:
            ArgumentError: There are more of them than samples, or fewer.
        """
        index = cls.of(targets)
        if index.num_samples != len(dataset):
            raise ArgumentError(
                f"the {name} are not one a sample",
                expected=f"{len(dataset)} {name}",
                actual=str(index.num_samples),
            )
        return index

    @property
    def num_samples(self) -> int:
        """How many samples there are in all."""
        return len(self.core.samples)

    @property
    def counts(self) -> IndexArray:
        """Samples of each class, shape (classes,), int64."""
        return np.diff(self.core.first)

    @functools.cached_property
    def fingerprint(self) -> int:
        """A number that tells these labels from others."""
        parts = self.core.samples, self.core.first, np.array(self.labels)
        return functools.reduce(lambda so_far, part: fingerprint(part, so_far), parts, 0)

    def __getitem__(self, label: Label) -> IndexArray:
        """The samples of one class, shape (count,), int64, ascending; not writable.

        Raises:
            KeyError: No sample has that label.
        """
        k = self._numbers[label.item() if isinstance(label, (np.generic, Tensor)) else label]
        first = self.core.first
        return self.core.samples[first[k] : first[k + 1]]

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClassIndex):
            return NotImplemented
        return (
            self.labels == other.labels
            and np.array_equal(self.core.first, other.core.first)
            and np.array_equal(self.core.samples, other.core.samples)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ClassIndex({self.num_samples} samples, {len(self)} classes)"

    def __reduce__(self) -> tuple[Any, ...]:
        numbers = np.empty(self.num_samples, np.int64)
        numbers[self.core.samples] = np.repeat(np.arange(len(self)), self.counts)
        return ClassIndex, (np.array(self.labels)[numbers] if self.labels else numbers,)


class _Chosen:
    """An order over some samples."""

    def __init__(self, samples: IndexArray, order: Order) -> None:
        self._samples = samples
        self._order = order

    def take(self, first: int, count: int, step: int = 1) -> IndexArray:
        return self._samples[self._order.take(first, count, step)]


class ClassSampler(Sampler):
    """The samples of one class, each once, shuffled.

    Args:
        targets: Labels: see `ClassIndex`. For many classes make one index and give that.
        class_index: The label of the class, as in `targets`.
        shuffle: Else they come in their own order. Default: True.
        seed: Another seed, another order. Default: 0.
        num_replicas: Ranks that share the samples. Default: torch.distributed's, if initialised, else 1.
        rank: Which of them this is. Default: likewise.
        drop_last: Leave out what does not go round the ranks, instead of repeating the first. Default: False.

    Raises:
        ArgumentError: No sample is of that class.
    """

    def __init__(
        self,
        targets: Targets,
        class_index: Label,
        *,
        shuffle: bool = True,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
        drop_last: bool = False,
    ) -> None:
        index = ClassIndex.of(targets)
        if class_index not in index:
            raise ArgumentError(
                f"no sample is of class {class_index!r}", expected=f"one of {_some(index.labels)}"
            )
        self.class_index = class_index
        self.shuffle = shuffle
        self._samples = index[class_index]
        super().__init__(
            len(self._samples), seed=seed, num_replicas=num_replicas, rank=rank, drop_last=drop_last
        )

    def _order(self, epoch: int) -> Order:
        if not self.shuffle:
            return _Chosen(self._samples, AsTheyCome())
        permutation = _core.Permutation(self._global_length, seed_bits(self.seed), epoch)
        return _Chosen(self._samples, permutation)

    def _identity(self) -> dict[str, int]:
        return {
            **super()._identity(),
            "samples": self._fingerprint,
            "shuffle": int(self.shuffle),
        }

    @functools.cached_property
    def _fingerprint(self) -> int:
        return fingerprint(self._samples)


class BalancedBatchSampler(BatchOrder):
    """Batches of some samples from each of some classes ("P x K"), class by class.

    All classes come equally often, however large they are. In detail: batches come in rounds, in which no
    class comes twice; if the number of classes is no multiple of `classes_per_batch`, random ones sit a round
    out. Each class is gone through in a random order. So within an epoch

    - a sample comes twice in one batch only if its class has fewer than `samples_per_class`: it then repeats
      evenly;
    - a sample comes again only after its class has been gone through, for which small classes need fewer
      rounds;
    - samples of large classes may be left out, and so may, each time a class is gone through, the few that do
      not make up `samples_per_class`, and those of the rounds that it sat out. Other epochs leave out others.

    Args:
        targets: Labels: see `ClassIndex`.
        classes_per_batch: P.
        samples_per_class: K. A batch has P * K samples.
        num_batches: Batches of an epoch, over all ranks. Default: as many as the samples would fill, at least
            one.
        seed: Another seed, other batches. Default: 0.
        num_replicas: Ranks that share the batches. Default: torch.distributed's, if initialised, else 1.
        rank: Which of them this is. Default: likewise.
        drop_last: Leave out batches that do not go round the ranks, instead of repeating the first. Default:
            False.

    Raises:
        ArgumentError: There are fewer classes than a batch takes, or a number is not positive.
    """

    def __init__(
        self,
        targets: Targets,
        classes_per_batch: int,
        samples_per_class: int,
        *,
        num_batches: int | None = None,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
        drop_last: bool = False,
    ) -> None:
        self.index = ClassIndex.of(targets)
        self.classes_per_batch = at_least(1, classes_per_batch, "classes_per_batch")
        self.samples_per_class = at_least(1, samples_per_class, "samples_per_class")
        size = self.classes_per_batch * self.samples_per_class
        self.num_batches = (
            max(1, self.index.num_samples // size)
            if num_batches is None
            else at_least(1, num_batches, "num_batches")
        )
        super().__init__(size, seed=seed, num_replicas=num_replicas, rank=rank, drop_last=drop_last)
        self._order(0)

    @property
    def repeats(self) -> bool:
        """See `Ordered`."""
        return True

    @property
    def _global_length(self) -> int:
        return self.num_batches

    def _order(self, epoch: int) -> _core.BalancedBatches:
        seed = seed_bits(self.seed)
        return _core.BalancedBatches(
            self.index.core, self.classes_per_batch, self.samples_per_class, seed, epoch
        )

    def _identity(self) -> dict[str, int]:
        return {
            **super()._identity(),
            "targets": self.index.fingerprint,
            "classes_per_batch": self.classes_per_batch,
            "samples_per_class": self.samples_per_class,
        }


class StratifiedBatchSampler(BatchOrder):
    """Batches in which every class has its share of the whole, to within one sample or two; each sample once.

    A class with fewer samples than there are batches is in as many batches as it has samples. Samples come in
    a random order, inside a batch too. What does not fill a batch is the last, shorter one, and mirrors the
    whole as well.

    Args:
        targets: Labels: see `ClassIndex`.
        batch_size: Samples of a batch, on each rank.
        drop_last: Leave out the shorter batch, and batches that do not go round the ranks (which are
            otherwise made up for by repeating the first ones). Default: False.
        seed: Another seed, other batches. Default: 0.
        num_replicas: Ranks that share the batches. Default: torch.distributed's, if initialised, else 1.
        rank: Which of them this is. Default: likewise.

    Raises:
        ArgumentError: `batch_size` is not positive.
    """

    def __init__(
        self,
        targets: Targets,
        batch_size: int,
        drop_last: bool = False,
        *,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        self.index = ClassIndex.of(targets)
        super().__init__(
            at_least(1, batch_size, "batch_size"),
            seed=seed,
            num_replicas=num_replicas,
            rank=rank,
            drop_last=drop_last,
        )

    @property
    def _global_length(self) -> int:
        return turns(self.index.num_samples, self.batch_size, self.drop_last)

    def _order(self, epoch: int) -> _core.StratifiedBatches:
        return _core.StratifiedBatches(self.index.core, self.batch_size, seed_bits(self.seed), epoch)

    def _identity(self) -> dict[str, int]:
        return {
            **super()._identity(),
            "targets": self.index.fingerprint,
            "batch_size": self.batch_size,
        }


class EpisodeSampler(BatchOrder):
    """Tasks of few-shot learning ("N-way K-shot"): some samples from each of `n_way` random classes.

    A batch is one episode, class by class: `batch.view(n_way, n_shot + n_query)` has the support set in its
    first `n_shot` columns and the queries in the others. Inside an episode nothing repeats; episodes are
    drawn independently.

    Args:
        targets: Labels: see `ClassIndex`.
        n_way: Classes of an episode.
        n_shot: Samples of each for the support set.
        n_query: Samples of each to be recognised. Default: 0.
        num_episodes: Episodes of an epoch, over all ranks. Default: 100.
        seed: Another seed, other episodes. Default: 0.
        num_replicas: Ranks that share the episodes. Default: torch.distributed's, if initialised, else 1.
        rank: Which of them this is. Default: likewise.
        drop_last: Leave out episodes that do not go round the ranks, instead of repeating the first. Default:
            False.

    Raises:
        ArgumentError: There are fewer classes than `n_way`, a class has too few samples, or a number is not
            positive.
    """

    def __init__(
        self,
        targets: Targets,
        n_way: int,
        n_shot: int,
        n_query: int = 0,
        num_episodes: int = 100,
        *,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
        drop_last: bool = False,
    ) -> None:
        self.index = ClassIndex.of(targets)
        self.n_way = at_least(1, n_way, "n_way")
        self.n_shot = at_least(1, n_shot, "n_shot")
        self.n_query = at_least(0, n_query, "n_query")
        self.num_episodes = at_least(1, num_episodes, "num_episodes")
        self._require_enough(self.n_shot + self.n_query)
        super().__init__(
            self.n_way * (self.n_shot + self.n_query),
            seed=seed,
            num_replicas=num_replicas,
            rank=rank,
            drop_last=drop_last,
        )
        self._order(0)

    def _require_enough(self, samples: int) -> None:
        for label, count in zip(self.index, self.index.counts, strict=True):
            if count < samples:
                raise ArgumentError(
                    f"class {label!r} has too few samples for an episode",
                    expected=str(samples),
                    actual=str(count),
                    hint="Leave the class out, or ask for fewer.",
                )

    @property
    def repeats(self) -> bool:
        """See `Ordered`."""
        return True

    @property
    def _global_length(self) -> int:
        return self.num_episodes

    def _order(self, epoch: int) -> _core.Episodes:
        per_class = self.n_shot + self.n_query
        return _core.Episodes(self.index.core, self.n_way, per_class, seed_bits(self.seed), epoch)

    def _identity(self) -> dict[str, int]:
        return {
            **super()._identity(),
            "targets": self.index.fingerprint,
            "n_way": self.n_way,
            "n_shot": self.n_shot,
            "n_query": self.n_query,
        }


def _as_labels(targets: Any) -> Any:
    """Labels as an array of ints or of strings.

    Raises:
        SchemaError: They are something else.
    """
    if not isinstance(targets, (Tensor, np.ndarray, Sequence)) and hasattr(targets, "targets"):
        targets = targets.targets
    labels = targets.detach().cpu().numpy() if isinstance(targets, Tensor) else np.asarray(targets)
    if labels.dtype.kind == "O" or (labels.dtype.kind == "U" and not isinstance(targets, np.ndarray)):
        labels = _of_one_kind(labels if labels.dtype.kind == "O" else np.array(targets, object))
    if labels.size == 0 and labels.ndim == 1:
        return labels.astype(np.int64)
    fits = labels.dtype.kind in "biuUS" and (labels.dtype != np.uint64 or labels.max(initial=0) < 2**63)
    if labels.ndim != 1 or not fits:
        raise SchemaError(
            "class labels must be whole numbers or strings, one a sample",
            expected="one dimension of ints or strings",
            actual=f"{labels.dtype} of shape {labels.shape}",
            hint="Labels that are whole but floats: .to(torch.int64)." if labels.dtype.kind == "f" else None,
        )
    return labels


def _of_one_kind(labels: Any) -> Any:
    """Objects as strings, or as ints, if that is what all of them are."""
    for kind, dtype in ((str, np.str_), ((int, np.integer), np.int64)):
        if all(isinstance(label, kind) for label in labels.flat):
            return labels.astype(dtype)
    return labels


def _some(labels: Sequence[Any]) -> str:
    """The first few of them."""
    return ", ".join(map(repr, labels[:10])) + (f", ... ({len(labels)} classes)" if len(labels) > 10 else "")
