"""One pass over a stream that feeds a stream for each class."""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import torch.utils.data
from torch.utils.data import get_worker_info

from penstock import _core
from penstock.background import Stop, Thread, never
from penstock.datasets.stream_labels import Labels, plain_label
from penstock.datasets.walks import ChunkWalk, ItemWalk
from penstock.errors import ArgumentError, PenstockError
from penstock.samplers.base import at_least
from penstock.samplers.classes import Label
from penstock.stacking import Stacker

__all__ = ["ClassStream", "ClassStreams"]

_PIECE = 2048  # samples that are sorted at a time
_LOOK_S = 0.1  # between two looks at who waits for whom
_PATIENCE_S = 10.0  # before a warning

Begin = Callable[[Stop], "ItemWalk | ChunkWalk"]


class ClassStreams(Mapping[Label, "ClassStream"]):
    """A stream for each of some classes, all fed by one pass in a thread: a mapping from label to stream.

    Give each a `penstock.DataLoader` (which then has no thread of its own), or the standard one with
    `num_workers=0`, and take batches in turn or in threads. The n-th pass of each class belongs to the n-th
    pass over the source. A consumer that breaks off no longer counts; its samples are passed over.

    With "block" a consumer that takes more of one class than `buffer` allows, while nobody takes another,
    would wait for itself: where one thread takes both, this is an error; where a class has not been begun at
    all, there is a warning after 10 s.

    Args:
        begin: Begins a pass.
        classes: The labels.
        buffer: How many samples of a class may lie ready.
        on_full: "block", "drop" or "error".
        labels: Where they are.

    Attributes:
        dropped: How many samples of each class were left out so far because its buffer was full.

    Raises:
        ArgumentError: There is no class, `buffer` is less than 1, or there is no such `on_full`.
    """

    def __init__(
        self, begin: Begin, classes: Iterable[Label], buffer: int, on_full: str, labels: Labels
    ) -> None:
        chosen = list(dict.fromkeys(map(plain_label, classes)))
        if not chosen:
            raise ArgumentError("there is no class to make a stream of")
        if on_full not in ("block", "drop", "error"):
            raise ArgumentError(
                "there is no such on_full", expected="block, drop or error", actual=repr(on_full)
            )
        self._begin = begin
        self._buffer = at_least(1, buffer, "buffer")
        self._on_full = on_full
        self._labels = labels
        self._pass: _SharedPass | None = None
        self._passed_over = [0]
        self.dropped: dict[Label, int] = dict.fromkeys(chosen, 0)

    @property
    def skipped(self) -> int:
        """How many samples so far were of none of these classes."""
        return self._passed_over[0]

    def __getitem__(self, label: Label) -> ClassStream:
        label = plain_label(label)
        if label not in self.dropped:
            raise KeyError(label)
        return ClassStream(self, label)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.dropped)

    def __len__(self) -> int:
        return len(self.dropped)

    def __repr__(self) -> str:
        return f"ClassStreams({list(self)}, buffer={self._buffer}, on_full={self._on_full!r})"

    def consumer(self, label: Label) -> ClassWalk:
        """Begin the pass of one class: in the present pass over the source, or in a new one."""
        if get_worker_info() is not None:
            raise ArgumentError(
                "streams by class share one pass, and so one process",
                expected="num_workers=0",
                hint="In worker processes use filter(), which makes a pass for each class.",
            )
        if self._pass is None or not self._pass.takes(label):
            if self._pass is not None:
                self._pass.leave_behind()
            self._pass = _SharedPass(self)
        return self._pass.consumer(label)


class ClassStream(torch.utils.data.IterableDataset[Any]):
    """The samples of one class, out of a pass that it shares with others: see `ClassStreams`."""

    def __init__(self, streams: ClassStreams, label: Label) -> None:
        self.streams = streams
        self.label = label

    def __iter__(self) -> Iterator[Any]:
        return self.begin(never)

    def begin(self, stop: Stop) -> ClassWalk:
        """Begin the next pass. It is told to stop by closing it."""
        return self.streams.consumer(self.label)

    def __repr__(self) -> str:
        return f"ClassStream({self.label!r})"


_Taken = deque[tuple[Label, "int | None"]]
"""Of which classes how many samples were taken; None: its consumer is gone."""


def _all_of(taken: _Taken) -> list[tuple[Label, int | None]]:
    """All that is in there, and no longer is; another thread may be doing the same."""
    found = []
    with suppress(IndexError):
        while True:
            found.append(taken.popleft())
    return found


class _End:
    """In the place of samples: there are no more, or this is why."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure


class _Desk:
    """Where the samples of one class lie ready, and who takes them."""

    def __init__(self) -> None:
        self.ready: SimpleQueue[list[Any] | _End] = SimpleQueue()
        self.taker: int | None = None  # the thread that took last
        self.is_waiting = False


class _SharedPass:
    """One pass over the source. Refers to its consumers by their desks only."""

    def __init__(self, streams: ClassStreams) -> None:
        self._desks = {label: _Desk() for label in streams}
        self._begun: set[Label] = set()
        self._open: set[Label] = set()
        self._taken: _Taken = deque()  # what the thread has not heard of yet
        sorter = _Sorter(streams, self._desks, self._taken)
        self.thread = Thread(sorter.run, "penstock: streams by class")
        self._is_running = False
        self._num_taken = 0
        self._most_taken = streams._buffer // 2 if streams._on_full == "block" else 0

    def takes(self, label: Label) -> bool:
        """Whether this class has not been begun yet in this pass, and can be."""
        return label not in self._begun and not self.thread.stopped

    def consumer(self, label: Label) -> ClassWalk:
        self._begun.add(label)
        self._open.add(label)
        return ClassWalk(self, label, self._desks[label])

    def start(self) -> None:
        """Begin, if that is still to be done."""
        self.thread.require_here()
        if not self._is_running:
            self._is_running = True
            self.thread.start()

    def took(self, label: Label, count: int) -> None:
        """Samples were taken. Not told one by one: to wake a thread costs as much as a batch."""
        self._taken.append((label, count))
        self._num_taken += count
        if self._num_taken > self._most_taken:
            self.tell()

    def tell(self) -> None:
        """Have the thread hear of all that was taken, by whichever consumer."""
        self._num_taken = 0
        if taken := _all_of(self._taken):
            self.thread.inbox.put(taken)

    def close(self, label: Label) -> None:
        """The consumer of a class wants no more."""
        self._open.discard(label)
        self.thread.inbox.put([(label, None)])
        if not self._open and len(self._begun) == len(self._desks):
            self.thread.stop()

    def leave_behind(self) -> None:
        """Another pass begins: nobody will begin a class of this one any more."""
        for label in self._desks:
            if label not in self._begun:
                self._begun.add(label)
                self.close(label)

    def __del__(self) -> None:
        self.thread.stop()


class ClassWalk(Iterator[Any]):
    """The pass of one class.

    Attributes:
        items: Samples handed over so far.
    """

    def __init__(self, shared: _SharedPass, label: Label, desk: _Desk) -> None:
        self._shared = shared
        self._label = label
        self._desk = desk
        self._held: list[Any] = []
        self._ended = False
        self.items = 0

    def __next__(self) -> Any:
        for sample in self.take(1):
            return sample
        raise StopIteration

    def take(self, count: int) -> list[Any]:
        """The next samples: fewer only at the end."""
        taken: list[Any] = []
        while len(taken) < count and (self._held or self._wait()):
            wanted = count - len(taken)
            some, self._held = self._held[:wanted], self._held[wanted:]
            taken += some
            self._shared.took(self._label, len(some))
        self.items += len(taken)
        return taken

    def batch(self, count: int, stacker: Stacker) -> tuple[Any, int]:
        """The next samples as a batch."""
        first = self.items
        samples = self.take(count)
        return (stacker.stack(samples, first) if samples else None), len(samples)

    def state(self) -> None:
        """There is none: the classes of a pass are at different places in it."""

    def finish(self, *, ended: bool) -> None:
        """Nothing is promised of the length."""

    def close(self) -> None:
        """Want no more."""
        self._ended = True
        self._shared.close(self._label)

    def _wait(self) -> bool:
        if self._ended:
            return False
        self._shared.start()
        desk = self._desk
        if desk.ready.empty():
            self._shared.tell()
        desk.taker, desk.is_waiting = threading.get_ident(), True
        try:
            some = desk.ready.get()
        finally:
            desk.is_waiting = False
        if isinstance(some, _End):
            self._ended = True
            if some.failure is not None:
                raise some.failure
            return False
        self._held = some
        return True

    def __del__(self) -> None:
        self._shared.close(self._label)


class _Sorter:
    """Sorts samples by class in a thread, and waits, drops or fails where a desk is full."""

    def __init__(self, streams: ClassStreams, desks: dict[Label, _Desk], taken: _Taken) -> None:
        self._taken = taken
        self._begin = streams._begin
        self._on_full = streams._on_full
        self._labels = streams._labels
        self._key: Any = None
        self._desks = desks
        self._room = dict.fromkeys(desks, streams._buffer)
        self._buffer = streams._buffer
        self._dropped = streams.dropped
        self._passed_over = streams._passed_over
        self._closed: set[Label] = set()

    def run(self, thread: Thread) -> None:
        """Walk over the source to its end, or until told to stop."""
        end = _End()
        try:
            walk = self._begin(thread.is_stopped)
            try:
                while not thread.stopped and (samples := walk.piece(_PIECE)):
                    self._sort(samples, thread)
                if not thread.stopped:
                    walk.finish(ended=True)
            finally:
                walk.close()
        except BaseException as failure:
            end = _End(failure)
        for desk in self._desks.values():
            desk.ready.put(end)

    def _sort(self, samples: list[Any], thread: Thread) -> None:
        found: dict[Label, list[Any]] = {label: [] for label in self._desks}
        if self._key is None:
            self._key = self._labels.key(samples[0])
        done, others = _core.sort_by_label(samples, self._key, found)
        for sample in samples[done:]:  # with labels that are arrays, or numpy's numbers
            some = found.get(plain_label(sample[self._key]))
            if some is None:
                others += 1
            else:
                some.append(sample)
        self._passed_over[0] += others
        while not thread.inbox.empty():
            self._heed(thread.inbox.get())
        rest = {label: self._deliver(label, some) for label, some in found.items() if some}
        for label, some in rest.items():
            while some and not thread.stopped:
                self._wait_for_room(label, thread)
                some = self._deliver(label, some)

    def _deliver(self, label: Label, samples: list[Any]) -> list[Any]:
        """Lay samples of a class ready. Returns those that must wait."""
        if label in self._closed:
            return []
        room = self._room[label]
        now, later = samples[:room], samples[room:]
        if now:
            self._room[label] -= len(now)
            self._desks[label].ready.put(now)
        if later and self._on_full == "drop":
            self._dropped[label] += len(later)
            return []
        if later and self._on_full == "error":
            raise PenstockError(
                f"the consumer of class {label!r} stands still",
                expected=f"at most {self._buffer} samples waiting for it",
                actual="one more",
                hint="Take from it, or choose a larger buffer or another on_full.",
            )
        return later

    def _heed(self, messages: list[tuple[Label, int | None]] | None) -> None:
        for label, count in messages or ():
            if count is None:
                self._closed.add(label)
            else:
                self._room[label] += count

    def _wait_for_room(self, label: Label, thread: Thread) -> None:
        """Until the consumer of a class takes some, or is gone."""
        begun, warned = time.monotonic(), False
        while self._room[label] == 0 and label not in self._closed and not thread.stopped:
            try:
                self._heed(thread.inbox.get(timeout=_LOOK_S))
            except Empty:
                self._heed(_all_of(self._taken))
                if self._room[label] == 0:
                    self._require_no_deadlock(label)
                if not warned and time.monotonic() - begun > _PATIENCE_S:
                    warned = True
                    warnings.warn(
                        f"class {label!r} has {self._buffer} samples ready and nobody takes them: "
                        "all other classes wait for it",
                        stacklevel=2,
                    )

    def _require_no_deadlock(self, label: Label) -> None:
        """Say so where the thread that should take samples of this class waits for another one's."""
        taker = self._desks[label].taker
        for other, desk in self._desks.items():
            has_nothing = desk.is_waiting and self._room[other] == self._buffer
            if taker is not None and desk.taker == taker and has_nothing:
                raise PenstockError(
                    f"the thread that waits for class {other!r} is the one that should take class {label!r}",
                    expected=f"at most {self._buffer} samples of a class waiting",
                    hint="Take from the classes in turn, or choose a larger buffer or on_full='drop'.",
                )
