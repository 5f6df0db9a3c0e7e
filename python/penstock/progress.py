"""Bars for work that takes long: on a terminal, of the first rank, after a second, if `tqdm` is there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch.distributed

__all__ = ["Advance", "bar", "steps"]

Advance: TypeAlias = "Callable[[float], object]"
"""Called with how much more is done."""

SECONDS_BEFORE = 1.0


@contextmanager
def bar(what: str, total: int, *, unit: str, done: int = 0) -> Iterator[Advance]:
    """A bar for so many units, of which some are done."""
    try:
        from tqdm import tqdm
    except ImportError:
        tqdm = None
    if tqdm is None or not sys.stderr.isatty() or _rank() != 0:
        yield lambda _: None
        return
    with tqdm(
        total=total, initial=done, desc=what, unit=unit, unit_scale=True, delay=SECONDS_BEFORE, leave=False
    ) as drawn:
        yield drawn.update


def steps(total: int, at_once: int, what: str, unit: str) -> Iterator[tuple[int, int]]:
    """Go through `total` things in ranges of `at_once`, with a bar.

    Yields:
        The range to do now: first, and one past the last.
    """
    with bar(what, total, unit=unit) as advance:
        for begin in range(0, total, at_once):
            end = min(begin + at_once, total)
            yield begin, end
            advance(end - begin)


def _rank() -> int:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", "0"))
