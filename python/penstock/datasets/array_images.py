"""Rows of arrays, and what is done to them on their way into a batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from penstock import _core
from penstock.collate import Transform
from penstock.datasets.epochs import InEpochs
from penstock.datasets.lowering import Lowered, NotLowered, lowered_for_rows, takes_images
from penstock.errors import SchemaError
from penstock.table import Sample, Structure, Table
from penstock.transforms import ImageRows

__all__ = ["ArrayDataset", "FieldTransforms"]

FieldTransforms: TypeAlias = "Mapping[str | int, Callable[[Any], Any]]"
"""From a field's name, or its place in a tuple, to its transform."""

_log = logging.getLogger("penstock")


@dataclass(frozen=True)
class _RowPlan:
    """What the core does to the rows of one field."""

    lowered: Lowered
    rows_channels_last: bool
    channels_last: bool


@dataclass(frozen=True)
class _EachField:
    """Transforms of fields, called with those of a sample."""

    structure: Structure
    transforms: tuple[tuple[int, Callable[[Any], Any]], ...]

    def __call__(self, sample: Sample) -> Sample:
        if self.structure.kind == "tensor":
            fields = [sample]
        else:
            fields = list(sample.values() if isinstance(sample, dict) else sample)
        for number, transform in self.transforms:
            fields[number] = transform(fields[number])
        return self.structure.pack(fields)


class ArrayDataset(InEpochs):
    """Samples that are rows of arrays, some of them maybe images with a transform.

    Attributes:
        given_transform: The transform, as given. (`transform` is None where the core does the work.)
    """

    def __init__(
        self,
        table: Table,
        *,
        target: str | None,
        transform: Transform | FieldTransforms | None,
        seed: int,
    ) -> None:
        self.seed = seed
        self.given_transform = transform
        self._plain = table
        self._plans: dict[int, _RowPlan] = {}
        self._in_python: dict[int, Callable[[Any], Any]] = {}
        self._why_slow: dict[str, str] = {}
        for number, each in _by_field(table.structure, transform).items():
            self._take(number, each)
        super().__init__(self._built(), target=target, transform=self._slow_path())
        if self._why_slow:
            _log.warning("%s", self.explain())

    def explain(self) -> str:
        """Whether the core carries out the transforms, or what keeps it from one, in one line."""
        if self._is_overridden:
            return self._said_of_override()
        if self._why_slow:
            name, why = next(iter(self._why_slow.items()))
            return f"{type(self).__name__}: '{name}' is transformed row by row in Python, because {why}"
        if self._plans:
            return f"{type(self).__name__}: images are transformed by the core"
        what = "there is no transform" if self.given_transform is None else "the transform is a function"
        return f"{type(self).__name__}: rows are gathered by the core; {what}"

    def _take(self, number: int, transform: Callable[[Any], Any]) -> None:
        """Finds what the core is to do with a field, or why it cannot."""
        field = self._plain.fields[number]
        is_image = field.dtype == "uint8" and len(field.row_shape) in (2, 3) and not field.is_ragged
        if is_image and not isinstance(transform, ImageRows) and takes_images(transform):
            transform = ImageRows(transform)
        try:
            if not is_image:
                raise NotLowered(f"its rows are {field.dtype} {field.row_shape}, no uint8 images")
            if not isinstance(transform, ImageRows):
                raise NotLowered("its transform is none of images")
            self._plans[number] = _plan(transform, field.row_shape)
        except NotLowered as why:
            self._in_python[number] = transform
            self._why_slow[field.name] = str(why)

    def _slow_path(self) -> Transform | None:
        """What is called with each sample."""
        if self._in_python:
            return _EachField(self._plain.structure, tuple(self._in_python.items()))
        whole = self.given_transform
        return None if isinstance(whole, Mapping) or self._plans else whole

    def _built(self) -> Table:
        """The table with what the core does to some of its fields."""
        plain = self._plain.core
        if not self._plans:
            return self._plain
        sources: list[_core.Column | _core.Source | _core.Table] = [
            _source(plain, number, self._plans[number]) if number in self._plans else plain.select(number)
            for number in range(len(self._plain.fields))
        ]
        return Table(_core.Table(sources), self._plain.structure)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_table": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._table = self._built()


def _by_field(
    structure: Structure, transform: Transform | FieldTransforms | None
) -> dict[int, Callable[[Any], Any]]:
    """The transforms of single fields, by their numbers.

    Raises:
        SchemaError: One is of no field, or two are of the same.
    """
    if not isinstance(transform, Mapping):
        is_of_images = isinstance(transform, ImageRows) or takes_images(transform)
        return {0: transform} if transform is not None and structure.kind == "tensor" and is_of_images else {}
    names = structure.names
    numbers = {}
    for name, each in transform.items():
        number = name if isinstance(name, int) else names.index(name) if name in names else -1
        if not 0 <= number < len(names) or number in numbers:
            raise SchemaError(
                "transform= names what is no field, or a field twice",
                expected=f"some of {list(names)}",
                actual=repr(name),
            )
        numbers[number] = each
    return numbers


def _plan(transform: ImageRows, shape: tuple[int, ...]) -> _RowPlan:
    last = transform.has_channels_last(shape)
    channels = None if len(shape) == 2 else shape[-1 if last else 0]
    if channels is not None and not 1 <= channels <= 4:
        raise NotLowered(f"images have 1 to 4 channels, not {channels}")
    lowered = lowered_for_rows(transform.transform, channels, transform.resize)
    return _RowPlan(lowered, last, transform.channels_last)


def _source(table: _core.Table, number: int, plan: _RowPlan) -> _core.ArrayImageSource:
    how = plan.lowered
    pipeline = _core.ImagePipeline(channels_last=plan.channels_last, **how.of_samples())
    steps = _core.ImageSteps(how.steps)
    return _core.ArrayImageSource(
        table, number, plan.rows_channels_last, pipeline, steps, how.fill, how.has_channels
    )
