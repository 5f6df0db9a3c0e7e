"""Labels of images, as a user may give them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from penstock import _core
from penstock.datasets.folder import few
from penstock.datasets.image_shards import Images, key_of, keys_of, names_in
from penstock.datasets.label_tensors import label_tensor
from penstock.errors import SchemaError

__all__ = ["ImageLabels", "as_tensor", "values_of"]

ImageLabels: TypeAlias = "Mapping[str, Any] | Sequence[Any] | Tensor | Callable[[Any], Any]"


def values_of(labels: ImageLabels, files: Images) -> Any:
    """One label for each image."""
    root = os.fsdecode(files.root) or "/"
    is_file = isinstance(files, _core.FileIndex)
    names = files.ids(None, ()) if isinstance(files, _core.FileIndex) else names_in(files)
    if isinstance(labels, Mapping):
        return _mapped(labels, names, partial(_keys_of_file, root) if is_file else keys_of)
    if callable(labels) and not isinstance(labels, Tensor):
        return [labels(Path(root, name) if is_file else key_of(name)) for name in names]
    values = labels if hasattr(labels, "__len__") else list(labels)
    if len(values) != len(names):
        raise SchemaError(
            "labels= does not have one for every image", expected=str(len(names)), actual=str(len(values))
        )
    return values.to_list() if hasattr(values, "to_list") else values  # a column of pandas


def _keys_of_file(root: str, name: str) -> tuple[str, ...]:
    last = os.path.basename(name)
    return name, os.path.splitext(name)[0], os.path.join(root, name), last, os.path.splitext(last)[0]


def _mapped(
    labels: Mapping[str, Any], names: Sequence[str], keys_of: Callable[[str], tuple[str, ...]]
) -> list[Any]:
    values, missing = [], []
    for name in names:
        key = next((key for key in keys_of(name) if key in labels), None)
        if key is None:
            missing.append(name)
        else:
            values.append(labels[key])
    if missing:
        raise SchemaError(f"labels= misses {len(missing)} of {len(names)} images", actual=few(missing))
    return values


def as_tensor(values: Any) -> Tensor:
    """Numbers, as one tensor.

    Raises:
        SchemaError: They are none.
    """
    try:
        return label_tensor(values).contiguous()
    except (TypeError, ValueError, RuntimeError) as error:
        raise SchemaError(
            "labels must be numbers",
            field="target",
            actual=repr(values[0]) if len(values) else "none",
            hint='Number them, such as {"cat": 0, "dog": 1}[name], or give strings alone.',
        ) from error
