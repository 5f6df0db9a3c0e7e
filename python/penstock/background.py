"""What is made in a thread ahead of whoever asks for it."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from penstock.errors import PenstockError

__all__ = ["RunAhead", "Stop", "Thread", "never"]

_PATIENCE_S = 1.0

T = TypeVar("T")

Stop = Callable[[], bool]
"""Whether nobody wants any more."""


def never() -> bool:
    """The `Stop` of what always goes on."""
    return False


class Thread:
    """A thread that can be told to stop, and is when the interpreter exits.

    It is told by a flag that its work looks at, and by a `None` in `inbox`. To tell it takes no lock, so that
    this is safe in a finalizer, in a signal handler and after a fork.

    Args:
        work: Called with this in the thread. Must not refer to whoever stops the thread.
        name: Of the thread.
    """

    _running: set[Thread] = set()  # noqa: RUF012 - shared on purpose

    def __init__(self, work: Callable[[Thread], None], name: str) -> None:
        self.inbox: SimpleQueue[Any] = SimpleQueue()
        self.stopped = False
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._process = os.getpid()

    def start(self) -> None:
        """Begin."""
        Thread._running.add(self)
        self._thread.start()

    def is_stopped(self) -> bool:
        """Whether it was told to stop."""
        return self.stopped

    def stop(self) -> None:
        """Tell it to stop; returns at once."""
        self.stopped = True
        self.inbox.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for its end, for so long at most."""
        if self._thread.ident not in (None, threading.get_ident()):
            self._thread.join(timeout_s)

    def require_here(self) -> None:
        """Say so where the thread cannot be.

        Raises:
            PenstockError: This process is a child of the one that has the thread.
        """
        if self._process != os.getpid():
            raise PenstockError(
                "this pass was begun before the process was forked, and its thread is the parent's",
                hint="Begin a pass of its own with iter() in the child.",
            )

    def _run(self) -> None:
        work, self._work = self._work, _nothing
        try:
            work(self)
        finally:
            Thread._running.discard(self)

    @staticmethod
    @atexit.register
    def _stop_all() -> None:
        """A thread in torch's code must not be there when the interpreter is gone."""
        running = list(Thread._running)
        for thread in running:
            thread.stop()
        end = time.monotonic() + _PATIENCE_S
        for thread in running:
            thread.join(max(0.0, end - time.monotonic()))


def _nothing(thread: Thread) -> None:
    """What a thread that is done refers to."""


class _End:
    """In the place of an item: there are no more, or this is why."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure


class RunAhead(Iterator[T], Generic[T]):
    """The items of an iterator, made in a thread of their own ahead of whoever asks.

    The thread begins with the first item asked for. It stops when this is closed or dropped, as soon as the
    iterator gives control back. What the iterator raises is raised in its turn, with its traceback.

    Args:
        make: Makes the iterator when the first item is asked for; it is given what says whether to stop.
        depth: How many items lie ready at most.
        most_bytes: And how many bytes, though always one item.
        bytes_of: How large an item is.
        after: A thread that was told to stop; its end is waited for, a second at most. Default: none.
    """

    def __init__(
        self,
        make: Callable[[Stop], Iterator[T]],
        depth: int,
        most_bytes: int,
        bytes_of: Callable[[T], int],
        after: Thread | None = None,
    ) -> None:
        self._make: Callable[[Stop], Iterator[T]] | None = make
        self._bytes_of = bytes_of
        self._depth = depth
        self._taken: list[int] = []  # bytes of what the thread has not heard of yet
        self._ended = False
        ready: SimpleQueue[Any] = SimpleQueue()
        made: list[Iterator[T]] = []

        def work(thread: Thread) -> None:
            if after is not None and after.stopped:
                after.join(_PATIENCE_S)
            try:
                _produce(made.pop(), ready, thread, depth, most_bytes, bytes_of)
            except BaseException as failure:
                ready.put(_End(failure))
            else:
                ready.put(_End())

        self._ready, self._made = ready, made
        self.thread = Thread(work, "penstock: stream")

    def __next__(self) -> T:
        if self._ended:
            raise StopIteration
        self.thread.require_here()
        if self._make is not None:
            make, self._make = self._make, None
            self._made.append(make(self.thread.is_stopped))
            self.thread.start()
        item = self._ready.get()
        if isinstance(item, _End):
            self._ended = True
            failure, item.failure = item.failure, None
            try:
                raise StopIteration if failure is None else failure
            finally:
                del failure  # its traceback holds this frame
        self._taken.append(self._bytes_of(item))
        if 2 * len(self._taken) >= self._depth or self._ready.empty():
            taken, self._taken = self._taken, []  # not one by one: to wake a thread costs as much as a batch
            self.thread.inbox.put(taken)
        return item  # type: ignore[no-any-return]

    def close(self) -> None:
        """Stop the thread; returns at once."""
        self._ended = True
        self.thread.stop()

    def __del__(self) -> None:
        self.thread.stop()


def _produce(
    items: Iterator[Any],
    ready: SimpleQueue[Any],
    thread: Thread,
    depth: int,
    most_bytes: int,
    bytes_of: Callable[[Any], int],
) -> None:
    """Put items there until told to stop, but not too many."""
    count = total = 0
    for item in items:
        if thread.stopped:
            return
        count, total = count + 1, total + bytes_of(item)
        ready.put(item)
        del item
        while not thread.inbox.empty() or count >= depth or (count and total >= most_bytes):
            taken = thread.inbox.get()
            if taken is None:
                return
            count, total = count - len(taken), total - sum(taken)
