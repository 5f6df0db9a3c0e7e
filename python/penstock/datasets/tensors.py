"""Samples that lie in memory."""

from __future__ import annotations

from multiprocessing import context
from typing import Any

from torch import Tensor

from penstock import _core
from penstock.collate import Transform
from penstock.datasets.array_images import ArrayDataset, FieldTransforms
from penstock.datasets.base import require_tensors
from penstock.errors import SchemaError
from penstock.table import Structure, Table, column_in_memory

__all__ = ["TensorDataset"]


class TensorDataset(ArrayDataset):
    """Rows of tensors in memory, as `torch.utils.data.TensorDataset`, gathered natively.

    Sample i is the tuple of row i of every tensor. Nothing is copied until a batch is assembled:
    views, transposed and strided tensors are read where they lie.

    Args:
        *tensors: One or more CPU tensors of one dimension or more and the same length.
        target: Name of the field with the class labels; fields are named "0", "1", ... Default: the last
            tensor when it is 1-D and integer.
        transform: As in `ShardDataset`; `{0: transform}` where the first of the tensors are images. Default:
            none.
        seed: As in `ShardDataset`.

    Raises:
        ArgumentError: As `ShardDataset`.
        SchemaError: No tensor, or one is not in host memory, has no rows or another length.
    """

    def __init__(
        self,
        *tensors: Tensor,
        target: str | None = None,
        transform: Transform | FieldTransforms | None = None,
        seed: int = 0,
    ) -> None:
        if not tensors:
            raise SchemaError("a dataset needs at least one tensor")
        self.tensors = tuple(require_tensors(tensors))
        self._shareable: tuple[Tensor, ...] | None = None
        super().__init__(_table_of(tensors), target=target, transform=transform, seed=seed)

    def __getstate__(self) -> dict[str, Any]:
        tensors = self._for_another_process()
        return {**super().__getstate__(), "tensors": tensors, "_plain": None, "_shareable": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_plain": _table_of(state["tensors"])})

    def _for_another_process(self) -> tuple[Tensor, ...]:
        """Copies, while a worker process is being started: torch moves what it sends to shared memory."""
        if context.get_spawning_popen() is None:
            return self.tensors
        if self._shareable is None:
            self._shareable = tuple(tensor.clone() for tensor in self.tensors)
        return self._shareable

    def _target_field(self) -> str | None:
        last = self.tensors[-1]
        is_label = last.ndim == 1 and not (last.is_floating_point() or last.is_complex())
        return self._target or (self.fields[-1] if is_label else None)


def _table_of(tensors: tuple[Tensor, ...]) -> Table:
    """Where they lie."""
    names = tuple(str(i) for i in range(len(tensors)))
    columns = [column_in_memory(name, tensor) for name, tensor in zip(names, tensors, strict=True)]
    return Table(_core.Table(columns), Structure("tuple", names))
