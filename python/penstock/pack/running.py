"""Threads that share the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from penstock.config import get_num_threads

__all__ = ["Pool"]


class Pool:
    """As many threads as Penstock may use, that share rows among them."""

    def __init__(self) -> None:
        self._threads = get_num_threads()
        self._executor = ThreadPoolExecutor(self._threads, "penstock-pack")

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def start(
        self, work: Callable[[int, int], None], rows: int, parts: int | None = None
    ) -> Callable[[], None]:
        """Have `work(begin, end)` called for ranges that make up all rows.

        Args:
            work: What to do.
            rows: How many there are.
            parts: How many ranges. Default: some for each thread.

        Returns:
            What waits for it, and raises what it raised.
        """
        parts = min(rows, parts or 4 * self._threads)
        edges = [rows * part // max(1, parts) for part in range(parts + 1)]
        results = self._executor.map(work, edges[:-1], edges[1:])

        def wait() -> None:
            deque(results, maxlen=0)

        return wait
