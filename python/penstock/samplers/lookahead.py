"""Batches of indices that know the ones that follow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any, Protocol

import numpy as np

from penstock.samplers.base import IndexArray

__all__ = ["BatchIndices", "Lookahead", "looking_ahead"]


class Underway(Protocol):
    """A batch on its way, of so many bytes."""

    bytes: int


class Lookahead:
    """The coming batches of one pass, and what has been begun of them.

    Whoever assembles the first batch (a dataset) begins the next ones, and finds its own begun from then on.
    Anything unforeseen (another dataset, indices that were changed, a batch skipped) only means that nothing
    is found.
    """

    MOST_BYTES = 1 << 28  # of batches begun and not asked for

    def __init__(self) -> None:
        self.coming: deque[BatchIndices] = deque()
        self._begun: dict[int, tuple[IndexArray, Underway]] = {}
        self._owner: Any = None

    def claim(self, owner: Any, indices: BatchIndices, begin: Callable[[IndexArray], Any]) -> Any:
        """The batch of these indices if it was begun before, else None; and begin those that follow."""
        if self._owner is None:
            self._owner = owner
        if self._owner is not owner:
            return None
        for number in [number for number in self._begun if number < indices.number]:
            del self._begun[number]  # it was never asked for
        known, underway = self._begun.pop(indices.number, (None, None))
        ahead = sum(begun.bytes for _, begun in self._begun.values())
        for batch in self.coming:
            if ahead > self.MOST_BYTES:
                break
            if batch.number > indices.number and batch.number not in self._begun:
                try:
                    begun = begin(batch)
                except Exception:  # it fails again when its turn comes
                    continue
                self._begun[batch.number] = np.array(batch), begun
                ahead += begun.bytes
        return underway if known is not None and np.array_equal(known, indices) else None

    def close(self) -> None:
        """Call off what was begun, and let go of the batches, which lead back to this."""
        self.coming.clear()
        self._begun.clear()


class BatchIndices(np.ndarray[Any, np.dtype[np.int64]]):
    """The sample numbers of one batch, shape (batch,), int64, which leads to the ones after it."""

    lookahead: Lookahead | None = None
    number: int = -1


def looking_ahead(
    batches: Iterator[IndexArray], depth: int, passed_on: Callable[[int], None]
) -> Iterator[IndexArray]:
    """The same batches, each with `depth` that follow it in sight.

    `passed_on` is told how many samples of `batches` have been yielded, before each of them is.
    """
    lookahead = Lookahead()
    coming = lookahead.coming
    samples = 0
    try:
        for number, batch in enumerate(chain(batches, repeat(None, depth))):
            if batch is not None:
                indices = batch.view(BatchIndices)
                indices.lookahead, indices.number = lookahead, number
                coming.append(indices)
            if number < depth or not coming:
                continue
            first = coming.popleft()
            samples += len(first)
            passed_on(samples)
            yield first
    finally:
        lookahead.close()
