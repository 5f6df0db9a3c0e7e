"""Batches onto the accelerator, ahead of the training loop."""

from __future__ import annotations

import copy
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeAlias, cast

import torch
from torch import Tensor

from penstock.errors import ArgumentError

__all__ = [
    "Convert",
    "DevicePrefetcher",
    "Mover",
    "Produced",
    "device_of_this_thread",
    "empty",
    "has_accelerator",
    "map_tensors",
    "moved_ahead",
    "next_produced",
    "pin",
]

Device: TypeAlias = "torch.device | str | int"

BATCHES_AHEAD = 2


def has_accelerator() -> bool:
    """Whether pinned memory is of use."""
    return torch.accelerator.is_available() if hasattr(torch, "accelerator") else torch.cuda.is_available()


def device_of_this_thread() -> Callable[[], None]:
    """Makes it another thread's too, when called there: a thread pins for the first device if it has none.

    Does nothing without an accelerator, or in a torch from before `torch.accelerator` had a device to set.
    """
    module = getattr(torch, "accelerator", None)
    if not has_accelerator() or not hasattr(module, "set_device_index"):
        return lambda: None
    return partial(torch.accelerator.set_device_index, torch.accelerator.current_device_index())


def map_tensors(batch: Any, function: Callable[[Any], Any], method: str | None = None) -> Any:
    """The same batch with `function` applied to its tensors, in lists, tuples and mappings of any depth.

    And to any other object that has `method`: not all tensors of torch's `PackedSequence` move with it.
    """
    if isinstance(batch, Tensor) or (method is not None and callable(getattr(batch, method, None))):
        return function(batch)
    if isinstance(batch, Mapping):
        values = {key: map_tensors(value, function, method) for key, value in batch.items()}
        return values if type(batch) is dict else _like_mapping(batch, values)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_tensors(value, function, method) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(map_tensors(value, function, method) for value in batch)
    return batch


def _like_mapping(batch: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    """A mapping of its type, with what else that holds."""
    if not isinstance(batch, MutableMapping):
        return type(batch)(values)  # type: ignore[call-arg]
    like = copy.copy(batch)
    like.update(values)
    return like


def empty(shape: Sequence[int], dtype: torch.dtype, *, pin_memory: bool) -> Tensor:
    """A new tensor to fill, in pinned memory if that is wanted and to be had.

    Raises:
        MemoryError: There is not so much memory.
    """
    try:
        return torch.empty(shape, dtype=dtype, pin_memory=pin_memory)
    except RuntimeError as error:
        if not pin_memory:
            raise MemoryError(str(error)) from error
        _warn_of_pageable_memory(error)
        return empty(shape, dtype, pin_memory=False)


def pin(batch: Any) -> Any:
    """The same batch in pinned memory, if there is any to be had: what torch's loader makes of it."""
    if not has_accelerator():
        return batch
    try:
        return map_tensors(batch, lambda each: each.pin_memory(), "pin_memory")
    except RuntimeError as error:
        _warn_of_pageable_memory(error)
        return batch


def _warn_of_pageable_memory(error: RuntimeError) -> None:
    warnings.warn(
        f"no pinned memory is to be had: {error}; this batch is in pageable memory, and whoever copies it to "
        "the device waits",
        stacklevel=2,
    )


class Convert:
    """What is better done on the device: bytes cross the bus as bytes, and become numbers there.

    A tensor x of the batch becomes (x * scale - mean) / std, of type `dtype`; with neither scale, mean nor
    std only the type changes. It is reckoned in float32 at least, as x * (scale / std) - mean / std, so the
    last digit may differ from torchvision's.

    Args:
        dtype: Of the result. Default: float32.
        scale: A factor; 1 / 255 makes bytes 0 to 1. Default: none.
        mean: Of each channel, after scaling; shape (channels,), for tensors of shape (batch, channels, ...).
            Default: none.
        std: Likewise. Default: none.
        channels_last: Give tensors of four dimensions torch's `channels_last` memory format. Default: False.
        fields: Which tensors: a name or names of a dict's, positions in a tuple or list. Default: those of
            bytes or floating-point numbers with more than one a sample, so that labels stay as they are.

    Raises:
        ArgumentError: `dtype` is no dtype of torch; a standard deviation is 0; `mean` and `std` are of
            different numbers of channels.
    """

    def __init__(
        self,
        dtype: torch.dtype = torch.float32,
        *,
        scale: float | None = None,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        channels_last: bool = False,
        fields: str | Iterable[str | int] | None = None,
    ) -> None:
        if not isinstance(dtype, torch.dtype):
            raise ArgumentError(
                "dtype= is no dtype of torch", expected="one such as torch.float32", actual=repr(dtype)
            )
        self.dtype = dtype
        self.scale = scale
        self.mean = mean
        self.std = std
        self.channels_last = channels_last
        self.fields = (fields,) if isinstance(fields, str) else fields and tuple(fields)
        deviation = torch.as_tensor(1.0 if std is None else std, dtype=torch.float64)
        if bool((deviation == 0).any()):
            raise ArgumentError("a standard deviation is 0", expected="numbers above 0", actual=repr(std))
        average = torch.as_tensor(0.0 if mean is None else mean, dtype=torch.float64)
        channels = {each.numel() for each in (average, deviation)} - {1}
        if max(average.ndim, deviation.ndim) > 1 or len(channels) > 1:
            raise ArgumentError(
                "mean= and std= must be one number each, or one for each channel",
                actual=f"shapes {tuple(average.shape)} and {tuple(deviation.shape)}",
            )
        self._factor = (1.0 if scale is None else scale) / deviation
        self._offset = -average / deviation
        self._is_cast = scale is None and mean is None and std is None

    def __call__(self, batch: Any) -> Any:
        """The batch, converted; where its tensors are.

        Raises:
            ArgumentError: The batch has no such field, or a tensor has other channels than `mean` and `std`.
        """
        if self.fields is None:
            return map_tensors(batch, lambda tensor: self._converted(tensor) if _is_data(tensor) else tensor)
        chosen: Any = dict(batch) if isinstance(batch, Mapping) else dict(enumerate(batch))
        for field in self.fields:
            if field not in chosen:
                raise ArgumentError(
                    "the batch has no such field", expected=f"one of {list(chosen)}", actual=repr(field)
                )
            chosen[field] = self._converted(chosen[field])
        if isinstance(batch, Mapping):
            return chosen
        is_named = hasattr(batch, "_fields")
        return type(batch)(*chosen.values()) if is_named else type(batch)(chosen.values())

    def __repr__(self) -> str:
        return (
            f"Convert({self.dtype}, scale={self.scale}, mean={self.mean}, std={self.std}, "
            f"channels_last={self.channels_last}, fields={self.fields})"
        )

    def _converted(self, tensor: Tensor) -> Tensor:
        if not self._is_cast:
            exact = torch.promote_types(self.dtype, torch.float32)
            factor, offset = (self._like(values, tensor, exact) for values in (self._factor, self._offset))
            tensor = tensor.to(exact, copy=True).mul_(factor).add_(offset)
        if self.channels_last and tensor.ndim == 4:
            return tensor.to(self.dtype, memory_format=torch.channels_last)
        return tensor.to(self.dtype)

    @staticmethod
    def _like(values: Tensor, tensor: Tensor, dtype: torch.dtype) -> Any:
        """One number, or one per channel: shape (channels, 1, ...)."""
        if values.ndim == 0:
            return values.item()
        if len(values) > 1 and (tensor.ndim < 2 or tensor.shape[1] != len(values)):
            raise ArgumentError(
                "mean= and std= are not of as many channels as the batch",
                expected=f"{len(values)} channels, shape (batch, {len(values)}, ...)",
                actual=f"shape {tuple(tensor.shape)}",
            )
        return values.to(tensor.device, dtype).view(-1, *[1] * (tensor.ndim - 2))


def _is_data(tensor: Tensor) -> bool:
    return tensor.ndim > 1 and (tensor.is_floating_point() or tensor.dtype == torch.uint8)


class Moving:
    """A batch on its way to a device."""

    def __init__(
        self, batch: Any, event: Any = None, current_stream: Callable[[], Any] | None = None
    ) -> None:
        self._batch = batch
        self._event = event
        self._current_stream = current_stream

    def arrived(self) -> Any:
        """The batch, for the caller's current stream, which waits for it; this thread does not."""
        if self._event is not None and self._current_stream is not None:
            stream = self._current_stream()
            stream.wait_event(self._event)
            map_tensors(self._batch, lambda each: _used_by(each, stream), "record_stream")
        return self._batch


def _used_by(each: Any, stream: Any) -> Any:
    """The tensor, whose memory its own stream must not use again before this one is done with it."""
    if not (isinstance(each, Tensor) and each.is_cpu):
        each.record_stream(stream)
    return each


class Mover:
    """Starts batches on their way to a device, by a stream of its own where the device has streams.

    Args:
        device: Where to.
        transform: Called with each batch there, on that stream. Default: none.

    Raises:
        ArgumentError: torch has no such device here.
    """

    def __init__(self, device: Device, transform: Callable[[Any], Any] | None = None) -> None:
        self.device = _existing(device)
        self._transform = transform
        self._module = cast(Any, getattr(torch, self.device.type, None))
        has_streams = self.device.type != "cpu" and hasattr(self._module, "Stream")
        self._stream: Any = self._module.Stream(self.device) if has_streams else None

    def start(self, batch: Any) -> Moving:
        """Begin to copy a batch from host memory; from pinned memory, this thread does not wait."""
        if self._stream is None:
            return Moving(self._moved(batch))
        with self._module.stream(self._stream):
            moved = self._moved(batch)
            event = self._module.Event()
            event.record(self._stream)
        return Moving(moved, event, lambda: self._module.current_stream(self.device))

    def _moved(self, batch: Any) -> Any:
        moved = map_tensors(batch, lambda each: each.to(self.device, non_blocking=True), "to")
        return moved if self._transform is None else self._transform(moved)


def _existing(device: Device) -> torch.device:
    """That device, with its number."""
    try:
        return torch.empty(0, device=device).device
    except (AssertionError, RuntimeError) as error:
        raise ArgumentError(f"torch has no device {device} here: {error}", actual=str(device)) from error


@dataclass(slots=True)
class Produced:
    """A batch whose turn comes, or the exception in its place.

    Attributes:
        batch: What a loader made; in `moved_ahead` what arrives.
        failure: What to raise in its turn. Default: none.
        samples: How many it holds.
        bytes: How large it was in host memory.
        begun_ns: When its assembly began, in ns as of `time.perf_counter_ns`. Default: 0, not known.
        done_ns: When it ended.
        state: Of the stream it was made from, to go on after it. Default: None, of no stream.
    """

    batch: Any
    failure: Exception | None = None
    samples: int = 0
    bytes: int = 0
    begun_ns: int = 0
    done_ns: int = 0
    state: dict[str, Any] | None = None

    def raise_failure(self) -> NoReturn:
        """Raise it, and keep nothing of it: its traceback holds the frames that hold this."""
        failure, self.failure = self.failure, None
        assert failure is not None
        try:
            raise failure
        finally:
            del failure


def next_produced(produced: Iterator[Produced]) -> Produced | None:
    """The next, or the exception in its place; None after the last.

    Not a generator's `except` around a `yield`: that keeps the exception, and so the frames that it went
    through, which keep the generator.
    """
    try:
        return next(produced, None)
    except Exception as failure:
        return Produced(None, failure)


def moved_ahead(produced: Iterable[Produced], mover: Mover, ahead: int) -> Iterator[Produced]:
    """The same batches on the device, `ahead` of them on the way; at first none: the first comes soon."""
    moving: deque[Produced] = deque()
    wanted = 0
    for each in produced:
        if each.failure is None:
            try:
                each.batch = mover.start(each.batch)
            except Exception as failure:
                each.failure = failure
        moving.append(each)
        if len(moving) > wanted:
            yield _arrived(moving.popleft())
            wanted = min(wanted + 1, ahead)
    while moving:
        yield _arrived(moving.popleft())


def _arrived(each: Produced) -> Produced:
    if each.failure is None:
        each.batch = each.batch.arrived()
    return each


class DevicePrefetcher:
    """Any loader's batches, on a device before the loop asks for them.

    Each is copied on a stream of its own while the loop works on those before it; the loop's current stream
    waits for the copy, the thread does not. Copies run beside the loop only from pinned memory: give the
    loader `pin_memory=True`. (`penstock.DataLoader(device=...)` does all this by itself, and can be resumed.)

    Args:
        loader: What makes the batches: tensors in lists, tuples, mappings, in host memory; or objects with a
            `to(device, non_blocking=)`, and a `record_stream(stream)` where they need it.
        device: Where to.
        transform: Called with each batch there, such as a `Convert`. Default: none.
        prefetch_factor: Batches on the way at a time; each takes memory of the device. Default: 2.

    Raises:
        ArgumentError: `prefetch_factor` is less than 1, or torch has no such device here.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        device: Device,
        *,
        transform: Callable[[Any], Any] | None = None,
        prefetch_factor: int = BATCHES_AHEAD,
    ) -> None:
        if prefetch_factor < 1:
            raise ArgumentError("too few batches ahead", expected="1 or more", actual=str(prefetch_factor))
        self.loader = loader
        self.transform = transform
        self.prefetch_factor = prefetch_factor
        self._mover = Mover(device, transform)
        self.device = self._mover.device

    def __iter__(self) -> Iterator[Any]:
        for each in moved_ahead(self._produced(), self._mover, self.prefetch_factor):
            if each.failure is not None:
                each.raise_failure()
            yield each.batch

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        """As the loader's own, if it has one."""
        if hasattr(self.loader, "set_epoch"):
            self.loader.set_epoch(epoch)

    def _produced(self) -> Iterator[Produced]:
        """An exception of the loader comes after the batches before it."""
        return iter(partial(next_produced, map(Produced, self.loader)), None)
