"""The class labels of a stream's samples, and choosing by them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import torch
import torch.distributed

from penstock.background import Stop
from penstock.datasets.base import TARGET_NAMES
from penstock.errors import SchemaError
from penstock.samplers.classes import Label
from penstock.stacking import map_chunk

__all__ = ["Kept", "Labels", "plain_label"]

_PLAIN = {int, str, bool}  # types of labels


class Labels:
    """Where the class labels of a stream's samples are.

    Args:
        target: A dict's key or a tuple's position. Default: the key `label`, `labels`, `target`, `targets`,
            `y` or `class`; the last of a tuple or list.
    """

    def __init__(self, target: str | int | None) -> None:
        self.target = target

    def key(self, sample: Any) -> Any:
        """What to index such a sample with.

        Raises:
            SchemaError: It has no such field.
        """
        if isinstance(sample, dict):
            names = TARGET_NAMES if self.target is None else (self.target,)
            found = [name for name in names if name in sample]
            if found:
                return found[0]
        elif isinstance(sample, (tuple, list)):
            position = -1 if self.target is None else self.target
            if isinstance(position, int) and -len(sample) <= position < len(sample):
                return position
        wanted = "a tuple, or a dict with a label" if self.target is None else f"a field {self.target!r}"
        raise SchemaError(
            "samples of this stream have no class labels",
            expected=wanted,
            actual=type(sample).__name__,
            hint="Name their field with target=.",
        )


def plain_label(label: Any) -> Any:
    """A label as an int or a string.

    Raises:
        SchemaError: It is not one number or string.
    """
    if isinstance(label, (torch.Tensor, np.ndarray, np.generic)) and math.prod(label.shape) == 1:
        label = label.item()
    if isinstance(label, (int, str, float, bytes)):
        return label
    found = (
        f"{type(label).__name__} of shape {tuple(label.shape)}" if hasattr(label, "shape") else repr(label)
    )
    raise SchemaError("a class label must be one number or string", actual=found)


class Kept:
    """The classes that a filter keeps, of what another one kept.

    Args:
        classes: Their labels.
        labels: Where they are.
        before: The other one. Default: none.
    """

    def __init__(self, classes: Iterable[Label], labels: Labels, before: Kept | None = None) -> None:
        self._classes = frozenset(map(plain_label, classes))
        self._labels = labels
        self._before = before

    def of_items(self, items: Iterator[Any], stop: Stop) -> Iterator[Any]:
        """The samples among these that are of one of the classes."""
        if self._before is not None:
            items = self._before.of_items(items, stop)
        label_of: Any = None
        for item in items:
            if stop():
                return
            if label_of is None:
                label_of = itemgetter(self._labels.key(item))
            label = label_of(item)
            if (label if type(label) in _PLAIN else plain_label(label)) in self._classes:
                yield item

    def of_chunks(self, chunks: Iterator[Any], stop: Stop) -> Iterator[Any]:
        """These chunks with only the rows that are of one of the classes."""
        if self._before is not None:
            chunks = self._before.of_chunks(chunks, stop)
        for chunk in chunks:
            if stop():
                return
            labels = np.asarray(chunk[self._labels.key(chunk)])
            chosen = np.isin(labels, list(self._classes))
            if chosen.any():
                yield chunk if chosen.all() else map_chunk(chunk, partial(_chosen, chosen))


def _chosen(chosen: Any, part: Any) -> Any:
    return part[torch.from_numpy(chosen) if isinstance(part, torch.Tensor) else chosen]
