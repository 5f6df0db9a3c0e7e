"""What can go wrong, as classes that say which file, field and row, and that survive pickling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "ArgumentError",
    "FormatError",
    "MissingFileError",
    "PenstockError",
    "RowError",
    "SampleError",
    "SchemaError",
    "ShardError",
    "require_choice",
    "unreadable",
]


class PenstockError(Exception):
    """Base of everything that Penstock raises.

    Attributes:
        problem: What is wrong, in a few words.
        path: The file, or None.
        field: The field, or None.
        row: The row's number in the dataset, or None.
        offset: The byte in the file, or None.
        expected: What was needed, or None.
        actual: What was found, or None.
        hint: What to do about it, or None.
    """

    def __init__(
        self,
        problem: str,
        *,
        path: str | None = None,
        field: str | None = None,
        row: int | None = None,
        offset: int | None = None,
        expected: str | None = None,
        actual: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path
        self.field = field
        self.row = row
        self.offset = offset
        self.expected = expected
        self.actual = actual
        self.hint = hint

    def __str__(self) -> str:
        where = [] if self.field is None else [f"field {self.field!r}"]
        where += [] if self.row is None else [f"row {self.row}"]
        parts = [] if self.path is None else [f"{self.path}: "]
        parts += [f"{', '.join(where)}: "] if where else []
        parts += [self.problem]
        parts += [] if self.expected is None else [f"; needed {self.expected}"]
        parts += [] if self.actual is None else [f"{',' if self.expected else ';'} found {self.actual}"]
        parts += [] if self.offset is None else [f" (at byte {self.offset})"]
        parts += [] if self.hint is None else [f". {self.hint}"]
        return "".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.problem, self.__dict__)


def _rebuild(cls: type[PenstockError], problem: str, facts: dict[str, Any]) -> PenstockError:
    error = cls(problem)
    for name, value in facts.items():
        setattr(error, name, value)
    return error


class FormatError(PenstockError, ValueError):
    """This file is not what it should be: malformed, unsafe, or of a kind that cannot be read."""


class ShardError(PenstockError, OSError):
    """This file cannot be read, or cannot be read any more: missing, truncated, changed, I/O error.

    Attributes:
        errno: The system's number for what failed, or None.
    """

    def __init__(self, problem: str, *, errno: int | None = None, **facts: Any) -> None:
        super().__init__(problem, **facts)
        self.errno = errno

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.problem, {**self.__dict__, "errno": self.errno})


class MissingFileError(ShardError, FileNotFoundError):
    """A file or folder that must be there is not."""


def unreadable(path: str, error: OSError) -> ShardError:
    """The same error, with the file's name."""
    kind = MissingFileError if isinstance(error, FileNotFoundError) else ShardError
    return kind(f"cannot be read: {error.strerror}", path=path, errno=error.errno)


class SampleError(PenstockError, RuntimeError):
    """This sample cannot be decoded or transformed."""


class SchemaError(PenstockError, TypeError):
    """Files, fields or arguments disagree."""


class ArgumentError(PenstockError, ValueError):
    """An argument has a value that cannot be."""


class RowError(PenstockError, IndexError):
    """This row number is outside the dataset."""


def require_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """See that an argument has one of its values.

    Raises:
        ArgumentError: It has another.
    """
    if value not in choices:
        raise ArgumentError(
            f"{name}= has a value that cannot be",
            expected=" or ".join(map(repr, choices)),
            actual=repr(value),
        )
