"""Labels of any kind as one tensor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["label_tensor"]


def label_tensor(values: Any) -> Tensor:
    """One label a row, of what torch's `default_collate` makes of them: Python's floats are float64.

    Args:
        values: A tensor; a sequence of numbers, or of tensors or arrays alike; or what has `__array__`, such
            as a column of a table, taken by position, not by its index.

    Raises:
        TypeError, ValueError, RuntimeError: They are no numbers.
    """
    if isinstance(values, Tensor):
        return values
    if not isinstance(values, np.ndarray) and hasattr(values, "__array__"):
        values = np.asarray(values)
    if isinstance(values, np.ndarray):
        return _of_array(values)
    if isinstance(values, Iterable) and not isinstance(values, Sequence):
        values = list(values)
    first = values[0] if isinstance(values, Sequence) and len(values) else None
    if isinstance(first, Tensor):
        return torch.stack(list(values))
    if isinstance(first, np.ndarray):
        return _of_array(np.stack(values))
    tensor = torch.as_tensor(values)
    is_of_floats = tensor.dtype == torch.get_default_dtype() and type(_first(values)) in (float, int, bool)
    return torch.as_tensor(values, dtype=torch.float64) if is_of_floats else tensor


def _of_array(values: np.ndarray[Any, Any]) -> Tensor:
    """A copy in order, of this machine, and writable: torch wants that."""
    if values.dtype.kind == "O":  # of numbers, or of what is none: torch will tell
        return label_tensor(values.tolist())
    return torch.from_numpy(np.array(values, dtype=values.dtype.newbyteorder("="), order="C"))


def _first(values: Any) -> Any:
    """The first number of a sequence, or of sequences in it."""
    while isinstance(values, Sequence) and len(values):
        values = values[0]
    return values
