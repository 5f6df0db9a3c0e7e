"""What a loader did: counts, one line with advice, a trace to look at."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from penstock.device import Produced

__all__ = ["Meter"]

_WAITED_LITTLE = 0.05


class Meter:
    """One pass of a loader: what it yielded, and how long it was waited for.

    Args:
        trace: Where to write what happened when, in Chrome's trace format, when the pass ends. Default: not.
    """

    def __init__(self, trace: str | os.PathLike[str] | None = None) -> None:
        self._trace = trace
        self._events: list[dict[str, Any]] = []
        self._start = self._last = time.perf_counter_ns()
        self._batches = self._samples = self._bytes = 0
        self._waited_ns = self._ready_ns = 0

    def add(self, produced: Produced, asked_ns: int) -> None:
        """A batch that was asked for then is yielded now."""
        now = time.perf_counter_ns()
        self._batches += 1
        self._samples += produced.samples
        self._bytes += produced.bytes
        self._waited_ns += now - asked_ns
        if produced.done_ns > 0:
            self._ready_ns += now - produced.done_ns
        self._last = now
        if self._trace is not None:
            self._note(produced, asked_ns, now)

    def read(self) -> dict[str, float]:
        """The figures, as `DataLoader.stats` describes them."""
        elapsed_ns = max(self._last - self._start, 1)
        return {
            "batches": self._batches,
            "samples": self._samples,
            "bytes": self._bytes,
            "samples_per_s": self._samples / elapsed_ns * 1e9,
            "bytes_per_s": self._bytes / elapsed_ns * 1e9,
            "wait_share": min(1.0, self._waited_ns / elapsed_ns),
            "batches_ready": self._ready_ns / elapsed_ns,
        }

    def line(self, advice: str) -> str:
        """The figures and `advice`, which is for a loop that waited."""
        stats = self.read()
        if not stats["batches"]:
            return "no batch yet"
        speed = f"{stats['samples_per_s']:,.0f} samples/s"
        if stats["bytes"]:
            speed += f", {stats['bytes_per_s'] / 1e9:.2f} GB/s, {stats['batches_ready']:.1f} batches ready"
        if stats["wait_share"] < _WAITED_LITTLE:
            advice = "the loader is not your bottleneck"
        waited = f"the loop waited {stats['wait_share']:.0%} of the time"
        return f"{stats['batches']:,.0f} batches, {speed}; {waited}: {advice}"

    def write_trace(self) -> None:
        """Write the trace, if one is wanted and not written yet: for chrome://tracing, or ui.perfetto.dev."""
        path, self._trace = self._trace, None
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                json.dump({"traceEvents": self._events}, file)

    def _note(self, produced: Produced, asked_ns: int, now: int) -> None:
        number = self._batches - 1
        self._span("loop: waits", number, asked_ns, now)
        if produced.done_ns > 0:
            self._span("core: assembles", number, produced.begun_ns, produced.done_ns)

    def _span(self, track: str, number: int, begin_ns: int, end_ns: int) -> None:
        """One of a pair of events each: spans of a track may overlap."""
        for phase, at_ns in (("b", begin_ns), ("e", end_ns)):
            self._events.append(
                {
                    "name": track,
                    "cat": track,
                    "id": number,
                    "ph": phase,
                    "ts": at_ns / 1000,
                    "pid": os.getpid(),
                    "args": {"batch": number},
                }
            )
