"""Bars for work that takes long: on a terminal, of the first rank, after a second."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import torch.distributed

__all__ = ["steps"]

_SECONDS_BEFORE = 1.0


def steps(total: int, at_once: int, what: str) -> Iterator[tuple[int, int]]:
    """Go through `total` things in ranges of `at_once`, with a bar where one is wanted and tqdm is there.

    Yields:
        The range to do now: first, and one past the last.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        tqdm = None
    bar = None
    if tqdm is not None and sys.stderr.isatty() and _rank() == 0:
        bar = tqdm(total=total, desc=what, unit=" files", delay=_SECONDS_BEFORE, leave=False)
    try:
        for begin in range(0, total, at_once):
            end = min(begin + at_once, total)
            yield begin, end
            if bar is not None:
                bar.update(end - begin)
    finally:
        if bar is not None:
            bar.close()


def _rank() -> int:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", "0"))
