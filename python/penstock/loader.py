"""Batches for a training loop, assembled ahead of it."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice, starmap
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.utils.data

from penstock import _core
from penstock.background import RunAhead, Stop, Thread, never
from penstock.collate import Collate, collate
from penstock.config import get_num_threads, set_num_threads
from penstock.datasets import ClassStream, Dataset, ImageDataset, ImageFolder, StreamDataset
from penstock.datasets.walks import batches_of
from penstock.device import (
    BATCHES_AHEAD,
    Device,
    Mover,
    Produced,
    device_of_this_thread,
    has_accelerator,
    moved_ahead,
    next_produced,
)
from penstock.errors import ArgumentError, SchemaError
from penstock.report import Meter
from penstock.samplers import BatchSampler, ClassIndex, SequentialSampler, ShuffleSampler
from penstock.samplers.base import BatchOrder, Ordered, Pass, Sampler, at_least
from penstock.samplers.classes import Label, Targets
from penstock.splits import subset_of
from penstock.stacking import Stacker, chunk_rows
from penstock.table import Batch, Underway

__all__ = ["DataLoader", "class_loaders"]

_BATCHES_AHEAD = 8
_BYTES_AHEAD = 1 << 28


class DataLoader(torch.utils.data.DataLoader[Any]):
    """torch's `DataLoader`, with the core's threads some batches ahead of the training loop.

    No worker processes, no shared memory, no thread for pinning; every epoch starts at once. That is so with
    `num_workers=0`, a Penstock dataset without a `transform` and the default `collate_fn` (or a
    `penstock.Collate`). A `StreamDataset` is run once, in a thread, ahead of the loop, as is its
    `collate_fn`. Anything else is loaded as torch does it, with Penstock's samplers. Breaking off, an
    exception or dropping the iterator calls off what was begun. A batch that fails raises where its turn
    comes; the ones before it arrive, and so do those after it.

    With several ranks (`torch.distributed`) each gets its share, shuffled or not. For all samples on one of
    them, such as for a validation that only rank 0 does, give
    `sampler=SequentialSampler(dataset, num_replicas=1, rank=0)`.

    Args:
        dataset: What to load from.
        batch_size: Samples of a batch; None: samples one by one. Default: 1.
        shuffle: Another order each epoch, by a `ShuffleSampler`. Default: False.
        sampler: An order of samples, instead.
        batch_sampler: An order of batches, instead of that and of `batch_size`.
        num_workers: Worker processes; with any, this is torch's loader. Default: 0.
        collate_fn: Puts samples together. Default: `penstock.collate`.
        pin_memory: Assemble in pinned memory. Default: if there is an accelerator.
        drop_last: Leave out a last batch that is shorter. Default: False.
        timeout: As torch's: of worker processes.
        worker_init_fn: As torch's.
        multiprocessing_context: As torch's.
        generator: Where the seed comes from if `seed` is None. Default: torch's own.
        prefetch_factor: Batches ahead; of every worker, where there are workers. Default: 8 (torch's 2).
            Never more than 256 MiB ahead.
        persistent_workers: As torch's.
        pin_memory_device: As torch's.
        in_order: As torch's.
        seed: Of the shuffle. Default: drawn from torch's random numbers, so that `torch.manual_seed` decides;
            with several ranks 0, the same for all.
        num_threads: The process's threads from now on, as `penstock.set_num_threads`. Default: as they are.
        device: Yield batches there, copied on a stream of their own up to 2 batches ahead of the loop.
            Default: host memory.
        device_transform: Called with each batch there, such as a `penstock.Convert`. Default: none.
        drop_cache: Let the system forget the parts of files that were read, so that a pass from front to
            back over more than memory holds does not push everything else out; shuffled, for rows of 64 KiB
            and more. For native loading. Default: False.
        trace: A file for what happened when, batch by batch, in Chrome's trace format; written when an epoch
            ends or is broken off. Default: none.

    Raises:
        ArgumentError: A number is too small; torch has no such device here; `drop_cache` where batches are
            not assembled natively; `timeout` without worker processes; `trace` in no folder.
        ValueError: Arguments exclude each other, as in torch.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Any = None,
        pin_memory: bool | None = None,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Any = None,
        multiprocessing_context: Any = None,
        generator: torch.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        seed: int | None = None,
        num_threads: int | None = None,
        device: Device | None = None,
        device_transform: Callable[[Any], Any] | None = None,
        drop_cache: bool = False,
        trace: str | os.PathLike[str] | None = None,
    ) -> None:
        if trace is not None and not Path(trace).absolute().parent.is_dir():
            raise ArgumentError("the trace's folder is not there", actual=os.fspath(trace))
        if num_threads is not None:
            set_num_threads(at_least(1, num_threads, "num_threads"))
        if prefetch_factor is not None:
            at_least(1, prefetch_factor, "prefetch_factor")
        is_stream = isinstance(dataset, torch.utils.data.IterableDataset)
        if timeout > 0 and num_workers == 0:
            raise ArgumentError("timeout is for worker processes", expected="num_workers above 0")
        self._drawn: ShuffleSampler | None = None  # has a seed that other ranks do not know
        if sampler is None and batch_sampler is None and not is_stream:
            shuffled = ShuffleSampler(dataset, seed=_seed(seed, generator)) if shuffle else None
            self._drawn = shuffled if seed is None else None
            sampler, shuffle = shuffled or SequentialSampler(dataset), None
        super().__init__(
            dataset,
            batch_size,
            shuffle,
            sampler,
            batch_sampler,
            num_workers,
            collate if collate_fn is None and batch_size is not None else collate_fn,
            has_accelerator() if pin_memory is None else pin_memory,
            drop_last,
            timeout,
            worker_init_fn,
            multiprocessing_context,
            generator,
            prefetch_factor=prefetch_factor if num_workers > 0 else None,
            persistent_workers=persistent_workers,
            pin_memory_device=pin_memory_device,
            **({} if in_order else {"in_order": False}),  # torch's from 2.6 on
        )
        self.in_order = in_order
        if type(self.batch_sampler) is torch.utils.data.BatchSampler and isinstance(sampler, Ordered):
            self.batch_sampler.set_epoch = sampler.set_epoch  # for frameworks
        # The attribute stays None without workers: frameworks hand it on to torch's loader, which wants that.
        self._depth = prefetch_factor or _BATCHES_AHEAD
        self.seed = seed
        self.num_threads = num_threads
        self.device = device
        self.device_transform = device_transform
        self.drop_cache = drop_cache
        self.trace = trace
        if drop_cache and not self._is_native():
            raise ArgumentError(
                "drop_cache=True is for batches that the core assembles",
                expected="num_workers=0, a Penstock dataset without a transform, Penstock's collate",
            )
        if device is not None:
            Mover(device)  # to say now that there is no such device
        self._place = _Place()  # in the latest pass
        self._skip = 0  # batches of the next one that a state says are done
        self._meter = Meter()

    def __iter__(self) -> Any:
        self._agree_on_seed()
        place = self._place = _Place(self._skip, self._turns_per_batch(), ended=self._place.ended)
        self._skip = 0
        self._meter = Meter(self.trace)
        if self._is_native():
            _draw(self.generator)
            produced = self._assembled(place)
        elif self._is_streamed():
            _draw(self.generator)
            place.stream = self._next_stream_state()
            produced = self._streamed(place)
        else:
            produced = self._loaded(place)
        if self.device is not None:
            produced = moved_ahead(produced, Mover(self.device, self.device_transform), BATCHES_AHEAD)
        elif self.device_transform is not None:
            produced = _transformed(produced, self.device_transform)
        return (_Epoch if self.trace is None else _TracedEpoch)(self, place, produced)

    def set_epoch(self, epoch: int) -> None:
        """Make this the next epoch of the sampler and of the dataset, if they know epochs."""
        orders: tuple[Any, ...] = (self._order(), self.sampler, self.batch_sampler, self.dataset)
        for order in {id(order): order for order in orders}.values():
            if hasattr(order, "set_epoch"):
                order.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """What has been yielded, and no more: plain numbers and names, for `json` as for `torch.save`.

        With one of Penstock's samplers it may be continued on another number of ranks, and at once. With any
        other, or with batches that another batch sampler makes of it, the batches are counted and made again
        up to there, and must be the same ones: natively their indices alone, else the batches themselves. A
        Penstock dataset is told from others by its `fingerprint`. A `StreamDataset` says where it is in its
        own words; what its source adds to them is the source's.

        Raises:
            ArgumentError: Workers hand over batches as they are done (`in_order=False`), not in an order.
        """
        if self.num_workers > 0 and not self.in_order:
            raise ArgumentError("batches out of order cannot be counted", expected="in_order=True")
        self._agree_on_seed()
        state = {
            "sampler": self._sampler_state(),
            "batches": self._place.yielded,
            "dataset": self._dataset_fingerprint(),
        }
        if self._is_streamed() and isinstance(self.dataset, StreamDataset):
            state["stream"] = self._place.stream or self._next_stream_state()
        return state

    def _sampler_state(self) -> dict[str, Any] | None:
        """Of the order underneath; where batches are counted, of its epoch's begin or end."""
        order = self._order()
        if order is None:
            return None
        state = order.state_dict()
        if not self._is_exact():
            state["position"] = order._global_length if self._place.ended and state["position"] else 0
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there: the next `iter()` begins with the batch after it.

        Raises:
            ArgumentError: The state is of another sampler, of another seed than was asked for, or of another
                dataset.
        """
        if not isinstance(state, dict):
            raise ArgumentError("a state is a dict", actual=type(state).__name__)
        self._agree_on_seed()
        order, ended = self._order(), False
        sampler, batches = (state.get(key) for key in ("sampler", "batches"))
        if (order is None) != (sampler is None) or not isinstance(batches, int) or batches < 0:
            raise ArgumentError("this is no state of such a loader", actual=repr(state))
        expected, actual = self._dataset_fingerprint(), state.get("dataset")
        if actual != expected:
            raise ArgumentError(
                "this state is of another dataset",
                expected=f"fingerprint {expected}",
                actual=str(actual),
                hint="Its fields, the lengths of its shards or the sizes of its files have changed.",
            )
        if order is not None:
            if self._drawn is not None and isinstance(sampler, dict):
                self._drawn.seed = sampler.get("seed", self._drawn.seed)  # nobody asked for another
            order.load_state_dict(sampler)  # type: ignore[arg-type]
            batches = 0 if self._is_exact() else batches
            ended = order._start > 0
        elif self._is_streamed() and isinstance(self.dataset, StreamDataset):
            self.dataset.load_state_dict(state.get("stream"))  # type: ignore[arg-type]
            batches = batches if state["stream"]["items"] else 0
        self._skip = batches
        self._place = _Place(batches, ended=ended)

    def stats(self) -> dict[str, float]:
        """How the latest epoch goes.

        Returns:
            `batches`, `samples` and `bytes` yielded, `samples_per_s` and `bytes_per_s` since it began,
            `wait_share`: the part of that time that the training loop spent in the loader, 0 to 1, and
            `batches_ready`: how many lay there finished, on average. Bytes and ready batches are known for
            native loading only.
        """
        return self._meter.read()

    def report(self) -> str:
        """The same in one line, with a word of advice."""
        return self._meter.line(self._advice())

    def _advice(self) -> str:
        """What a loop that waits can do."""
        if self.num_workers > 0:
            return "raise num_workers, or load natively with num_workers=0"
        if self._is_streamed():
            return "the source is slower than the loop; have it yield chunks, with batched=True, or wait less"
        if not self._is_native():
            if isinstance(self.dataset, (ImageFolder, ImageDataset)):
                return f"use num_workers; {self.dataset.explain().partition(': ')[2]}"
            return "use num_workers, or a Penstock dataset without a transform, which is loaded natively"
        threads, processors = get_num_threads(), _core.num_processors()
        if threads >= processors:
            helps = "less data a sample"
            if isinstance(self.dataset, (ImageFolder, ImageDataset)):
                helps = self.dataset.what_helps()
            return f"every processor is at work already; only {helps} would help"
        working = max(1e-9, 1 - self.stats()["wait_share"])
        return f"raise num_threads to {min(processors, max(threads + 1, math.ceil(threads / working)))}"

    def _dataset_fingerprint(self) -> int | None:
        return self.dataset.fingerprint if isinstance(self.dataset, Dataset) else None

    def _is_native(self) -> bool:
        return (
            self.num_workers == 0
            and isinstance(self.dataset, Dataset)
            and self.dataset.transform is None
            and not self.dataset._is_overridden
            and type(self.collate_fn) is Collate
            and self.batch_sampler is not None
        )

    def _is_streamed(self) -> bool:
        kind: Any = type(self.dataset)
        is_ours = issubclass(kind, (StreamDataset, ClassStream))
        plain = (StreamDataset.__iter__, ClassStream.__iter__)  # a subclass may have an idea of its own
        return is_ours and kind.__iter__ in plain and self.num_workers == 0 and self.batch_size is not None

    def _agree_on_seed(self) -> None:
        """A seed that was drawn before the ranks found each other gives way to one that all know."""
        if self._drawn is not None and _num_ranks() > 1:
            self._drawn.seed, self._drawn = 0, None

    def _cutter(self) -> Any:
        """What makes the batches' indices."""
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    def _order(self) -> Ordered | None:
        """The order of samples or batches underneath, if it is ours."""
        cutter = self._cutter()
        order = cutter if isinstance(cutter, Ordered) else getattr(cutter, "sampler", None)
        return order if isinstance(order, Ordered) else None

    def _is_exact(self) -> bool:
        """Whether so many batches are so many turns of the order underneath."""
        cutter = self._cutter()
        return isinstance(cutter, Ordered) or type(cutter) in _CUTTERS

    def _turns_per_batch(self) -> int:
        """What a batch takes of the order underneath."""
        cutter = self._cutter()
        return 1 if isinstance(cutter, Ordered) else int(getattr(cutter, "batch_size", None) or 1)

    def _index_batches(self, place: _Place) -> Iterator[Any]:
        """Indices of the coming batches: arrays straight from the core, where the sampler is ours."""
        order = self._order()
        cutter: Any = self.batch_sampler
        if isinstance(order, Sampler) and type(cutter) in _CUTTERS:
            return _unseen(order, BatchSampler(order, cutter.batch_size, cutter.drop_last), place)
        if isinstance(order, BatchOrder) and cutter is order:
            return _unseen(order, order, place)
        return islice(cutter, place.yielded, None)

    def _assembled(self, place: _Place) -> Iterator[Produced]:
        """Batches that the core's threads assemble, some ahead of the one that is asked for."""
        dataset: Any = self.dataset
        collate_fn: Any = self.collate_fn
        order = self._order()
        begin: Callable[..., Underway] = partial(
            dataset.begin,
            layout=collate_fn.layout,
            pin_memory=self.pin_memory or collate_fn.pin_memory,
            drop_cache=self.drop_cache,
        )

        def begin_in_epoch(indices: Any) -> Underway:
            walk = order._pass if place.walk is None and order is not None else place.walk
            return begin(indices, epoch=None if walk is None else walk.epoch)

        return starmap(_finished, _Ahead(self._index_batches(place), begin_in_epoch, self._depth))

    def _next_stream_state(self) -> dict[str, Any] | None:
        """Where the next pass of a stream will begin."""
        return self.dataset.next_state() if isinstance(self.dataset, StreamDataset) else None

    def _streamed(self, place: _Place) -> Iterator[Produced]:
        """Batches of a stream: made in a thread of its own, or of what such a thread has sorted by class."""
        stream: Any = self.dataset
        collate_fn: Any = self.collate_fn
        is_default = collate_fn in (collate, torch.utils.data.default_collate)
        take_device = device_of_this_thread()

        def begin(stop: Stop) -> Iterator[Produced]:
            batches = batches_of(
                stream.begin(stop),
                self.batch_size or 1,
                stop,
                drop_last=self.drop_last,
                collate_fn=None if is_default else collate_fn,
                stacker=Stacker(pin_memory=self.pin_memory),
            )
            return _after(take_device, batches) if self.pin_memory else batches

        if isinstance(stream, ClassStream):
            yield from islice(_ending(begin(never)), place.yielded, None)
            return
        ahead = RunAhead(begin, self._depth, _BYTES_AHEAD, lambda each: each.bytes, _THREADS.get(self))
        _THREADS[self] = ahead.thread
        try:
            yield from _ending(ahead)
        finally:
            ahead.close()

    def _loaded(self, place: _Place) -> Iterator[Produced]:
        """Batches that torch's own loader makes."""
        order = self._order() if self._is_exact() else None
        before = order and order._pass
        drop_last = getattr(self._cutter(), "drop_last", False)
        usual = self.batch_size or 1

        def enter() -> None:
            walk = None if order is None else order._pass
            if place.walk is None and walk is not None and walk is not before:
                place.enter(walk, drop_last=drop_last)

        def advance() -> Produced | None:
            each = _next_of(batches, usual)
            enter()
            return each

        batches = super().__iter__()
        enter()  # where workers have begun
        return islice(iter(advance, None), place.yielded, None)


_CUTTERS = (torch.utils.data.BatchSampler, BatchSampler)
_THREADS: WeakKeyDictionary[DataLoader, Thread] = WeakKeyDictionary()  # the latest that ran a loader's stream


@dataclass(slots=True)
class _Place:
    """Where one pass of a loader is: at what was yielded, whatever was begun beyond it.

    Attributes:
        yielded: Batches of the epoch that the user has, or had when a state was taken.
        turns: What a batch takes of the order underneath. Default: 1.
        walk: Through that order, once it has begun.
        stream: The state of a stream after them.
        ended: Whether there are no more; before the first batch, whether that is so of the pass before.
    """

    yielded: int = 0
    turns: int = 1
    walk: Pass | None = None
    stream: dict[str, Any] | None = None
    ended: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has this place, and will begin a walk of its own."""
        return _Place, (self.yielded, self.turns, None, self.stream, self.ended)

    def enter(self, walk: Pass, *, drop_last: bool) -> None:
        """This is the walk, of which nothing is seen yet."""
        self.walk, walk.seen = walk, 0
        walk.least = self.turns if drop_last else 1

    def pass_one(self, each: Produced) -> None:
        """A batch is yielded now, or raises."""
        self.yielded, self.ended = self.yielded + 1, False
        self.stream = each.state or self.stream
        if self.walk is not None:
            self.walk.seen = self.yielded * self.turns

    def end(self) -> None:
        """The epoch is over; the next one begins at its front."""
        self.yielded, self.stream, self.ended = 0, None, True


class _Epoch(Iterator[Batch]):
    """One pass of a loader: what was produced is counted as it is handed over."""

    def __init__(self, loader: DataLoader, place: _Place, produced: Iterator[Produced]) -> None:
        self._loader = loader
        self._place = place
        self._produced = produced
        self._meter = loader._meter

    def __next__(self) -> Batch:
        asked_ns = time.perf_counter_ns()
        each = next(self._produced, None)
        if each is None:
            self._meter.write_trace()
            self._place.end()
            raise StopIteration
        self._place.pass_one(each)
        if each.failure is not None:
            each.raise_failure()
        self._meter.add(each, asked_ns)
        return each.batch

    def __len__(self) -> int:
        return len(self._loader)


class _TracedEpoch(_Epoch):
    """One whose trace is written when broken off too; others have no `__del__`, for Ctrl-C is lost in it."""

    def __del__(self) -> None:
        self._meter.write_trace()


class _Ahead(Iterator["tuple[int, Underway | Exception]"]):
    """Batches under way, oldest first, each with its number of samples.

    Args:
        indices: Of the batches.
        begin: Has one assembled.
        depth: How many to have under way beyond the one that is handed over.
    """

    def __init__(self, indices: Iterator[Any], begin: Callable[[Any], Underway], depth: int) -> None:
        self._indices = indices
        self._begin = begin
        self._depth = depth
        self._begun: deque[tuple[int, Underway | Exception]] = deque()
        self._bytes = 0

    def __next__(self) -> tuple[int, Underway | Exception]:
        if not self._begun:
            self._begin_more(1)
            if not self._begun:
                raise StopIteration
        samples, underway = self._begun.popleft()
        if not isinstance(underway, Exception):
            self._bytes -= underway.bytes
            self._begin_more(self._depth)
        return samples, underway

    def _begin_more(self, count: int) -> None:
        while len(self._begun) < count and (self._bytes < _BYTES_AHEAD or not self._begun):
            try:
                indices = next(self._indices)
                underway = self._begin(indices)
            except StopIteration:
                return
            except Exception as error:
                self._begun.append((0, error))  # raised when its turn comes
                return
            self._begun.append((len(indices), underway))
            self._bytes += underway.bytes


def _unseen(order: Ordered, cutter: BatchSampler | BatchOrder, place: _Place) -> Iterator[Any]:
    """The batches of a pass, begun when the first is asked for; seen is none before its `place` says so."""
    place.enter(order._begin(), drop_last=cutter.drop_last)
    assert place.walk is not None
    yield from cutter.batches_of(place.walk)


def _finished(samples: int, underway: Underway | Exception) -> Produced:
    """A batch once it is there, or the exception in its place."""
    if isinstance(underway, Exception):
        return Produced(None, underway)
    try:
        batch = underway.batch()
    except Exception as failure:
        return Produced(None, failure)
    return Produced(batch, None, samples, underway.bytes, *underway.times())


def _next_of(batches: Iterator[Any], usual: int) -> Produced | None:
    """The next batch, or the exception in its place; None after the last.

    Args:
        batches: Of no known sizes.
        usual: Samples of one that does not show how many it has.
    """
    try:
        batch = next(batches)
    except StopIteration:
        return None
    except Exception as failure:
        return Produced(None, failure)
    return Produced(batch, None, _samples_in(batch, usual))


def _samples_in(batch: Any, usual: int) -> int:
    try:
        return chunk_rows(batch)
    except SchemaError:
        return usual


def _after(first: Callable[[], None], produced: Iterator[Produced]) -> Iterator[Produced]:
    """The same, and before it something else, in the thread that asks."""
    first()
    yield from produced


def _ending(produced: Iterator[Produced]) -> Iterator[Produced]:
    """The same batches; an exception takes its turn like one, and is the last."""
    return iter(partial(next_produced, produced), None)


def _transformed(produced: Iterator[Produced], transform: Callable[[Any], Any]) -> Iterator[Produced]:
    """The same batches, transformed where they are."""
    for each in produced:
        if each.failure is None:
            try:
                each.batch = transform(each.batch)
            except Exception as failure:
                each.failure = failure
        yield each


def _num_ranks() -> int:
    """As far as they have found each other."""
    initialised = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if initialised else 1


def _draw(generator: torch.Generator | None) -> int:
    """From torch's random numbers. Its loader does so once an epoch, and what follows depends on that."""
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator).item())


def _seed(seed: int | None, generator: torch.Generator | None) -> int:
    """The seed asked for, or one from torch's random numbers; with several ranks 0, the same for all."""
    if seed is not None:
        return seed
    return 0 if _num_ranks() > 1 else _draw(generator)


def class_loaders(
    dataset: Any,
    batch_size: int = 1,
    shuffle: bool = False,
    *,
    drop_last: bool = False,
    targets: Targets | None = None,
    seed: int | None = 0,
    collate_fn: Any = collate,
    pin_memory: bool | None = None,
    prefetch_factor: int = 1,
) -> dict[Label, DataLoader]:
    """A loader for every class.

    They have no worker processes and share the core's threads, so a thousand cost no more than ten. Each is a
    `penstock.DataLoader`, with an order and a state of its own, whose `dataset` is the class.

    Args:
        dataset: A Penstock dataset, or any other when `targets` are given.
        batch_size: Samples of a batch. Default: 1.
        shuffle: Each epoch in another order. Default: False.
        drop_last: Leave out a last batch that is shorter. Default: False.
        targets: Labels, shape (len(dataset),): see `ClassIndex`. Default: `dataset.targets`.
        seed: Of the shuffle; None: as in DataLoader. Default: 0.
        collate_fn: As in DataLoader. Default: `penstock.collate`.
        pin_memory: As in DataLoader.
        prefetch_factor: Batches ahead, of each class whose loader is being walked. Default: 1.

    Returns:
        A dict from label to loader, in the order of the labels.

    Raises:
        ArgumentError: There are more labels than samples, or fewer. `batch_size` is not positive.
        AttributeError: No field holds class labels, and none are given.
    """
    index = ClassIndex.over(dataset, dataset.targets if targets is None else targets)
    seed = _seed(seed, None)
    loaders = {}
    for k, label in enumerate(index):
        view = subset_of(dataset, index[label])
        sampler = ShuffleSampler(view, seed=seed + k) if shuffle else SequentialSampler(view)
        loaders[label] = DataLoader(
            view,
            batch_sampler=BatchSampler(sampler, batch_size, drop_last),
            collate_fn=collate_fn,
            pin_memory=pin_memory,
            prefetch_factor=prefetch_factor,
        )
    return loaders
