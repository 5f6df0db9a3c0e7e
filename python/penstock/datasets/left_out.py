"""What a file holds beside its tensors, which is in no sample."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TypeAlias

__all__ = ["is_left_out", "warn_of_left_out"]

LeftOut: TypeAlias = tuple[bytes, list[tuple[str, str]]]
"""Path of a file; name and kind of each value in it that is no tensor."""

_MOST_TOLD = 10


def is_left_out(name: str, left_out: LeftOut | None) -> bool:
    """Whether a value of that name is there that is no tensor: then no other may stand in for it."""
    return left_out is not None and any(name == other for other, _ in left_out[1])


def warn_of_left_out(left_out: LeftOut | None) -> None:
    """Warn that values of a file are in no sample, because they are no tensors.

    Args:
        left_out: What the core says of the first file with such values; None: there are none.
    """
    if left_out is None:
        return
    path, values = left_out
    told = ", ".join(f"{name!r} ({kind})" for name, kind in values[:_MOST_TOLD])
    warnings.warn(
        f"{os.fsdecode(path)}: what is no tensor is left out: {told}{', ...' * (len(values) > _MOST_TOLD)}. "
        "Save these values as tensors, e.g. torch.tensor(1), or name the fields you want with fields=",
        stacklevel=_frames_of_ours(),
    )


def _frames_of_ours() -> int:
    """How far up the caller of Penstock is, as `warnings.warn` counts it."""
    frame, count = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("penstock."):
        frame, count = frame.f_back, count + 1
    return count
