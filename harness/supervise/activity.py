"""What moves in a tree: processor time, bytes, births and deaths, per process and between two looks."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from harness.events import ProcessKey
from harness.probes import proc
from harness.probes.threads import WaitKind
from harness.supervise.waitgraph import Graph

ALONE: Final = 0.9
"""The share of a process's work from which on one thread does it alone."""
MOST_STARVED: Final = 0.95
"""The share of the time that a thread may be said to have waited for a processor; the rest is where it ran."""
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Look:
    """The counters of one process at one moment."""

    at: float
    ticks: int
    """Processor time of all its threads and reaped children, in clock ticks."""
    bytes: int
    """Bytes that it has read and written so far, by whatever call."""
    turns: int
    """How often its main thread has been given a processor."""
    asleep: bool
    """Whether its main thread was in a plain sleep."""
    queued_ns: Mapping[int, int]
    """For each thread, how long it has waited for a processor so far."""
    thread_ticks: Mapping[int, int]
    """For each thread, its processor time so far."""


class Activity:
    """Counters of the last seconds, per process; one look from before is kept, so that rare looks still have a span."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._looks: dict[ProcessKey, deque[Look]] = {}

    def look(self, keys: list[ProcessKey], now: float, graph: Graph) -> None:
        """Take the counters of all processes that are alive; forget those that are not."""
        known = {key: self._looks.get(key, deque()) for key in keys}
        for key, looks in known.items():
            stat = proc.read_bytes(f"/proc/{key.pid}/stat").rpartition(b")")[2].split()
            if len(stat) > 14:  # noqa: PLR2004 - utime, stime and those of reaped children are fields 14 to 17
                ticks = sum(int(field) for field in stat[11:15])
                waits = {node.wait.tid: node.wait for node in graph.of(key)}
                main = waits.get(key.pid)
                look = Look(
                    at=now,
                    ticks=ticks,
                    bytes=_io_bytes(key.pid),
                    turns=main.switches if main else 0,
                    asleep=main is not None and main.kind is WaitKind.SLEEP,
                    queued_ns={tid: wait.queued_ns for tid, wait in waits.items()},
                    thread_ticks={tid: wait.ticks for tid, wait in waits.items()},
                )
                looks.append(look)
            while len(looks) > 1 and now - looks[1].at >= self._window_s:
                looks.popleft()
        self._looks = known

    def forget(self) -> None:
        """Begin anew, as after a pause of this process itself."""
        self._looks = {}

    def span_s(self, key: ProcessKey) -> float:
        """Return over how many seconds the process has been looked at."""
        looks = self._looks.get(key)
        return looks[-1].at - looks[0].at if looks else 0.0

    def cpu_share(self, key: ProcessKey) -> float:
        """Return the processor time of the last seconds, in processors, as it would be on a machine that is not busy.

        What it was given, in the time that its most starved thread did not have to wait for a processor.
        """
        looks = self._looks.get(key)
        span = self.span_s(key)
        if not looks or not span:
            return 0.0
        first, last = looks[0].queued_ns, looks[-1].queued_ns
        queued = max((last[tid] - first.get(tid, 0) for tid in last), default=0) / 1e9
        return (looks[-1].ticks - looks[0].ticks) / TICKS_PER_S / max(span - queued, span * (1 - MOST_STARVED))

    def sole_worker(self, key: ProcessKey) -> int | None:
        """Return the thread that has done the work of a process since the last look, ``None`` if several have.

        Whether a thread is runnable at a look says less: one that waits for the GIL is woken every 5 ms to ask for it.
        """
        looks = self._looks.get(key)
        if looks is None or len(looks) < 2:  # noqa: PLR2004 - between two looks
            return None
        before, now = looks[-2].thread_ticks, looks[-1].thread_ticks
        spent = {tid: ticks - before.get(tid, 0) for tid, ticks in now.items()}
        most = max(spent, key=lambda tid: spent[tid], default=None)
        return most if most is not None and spent[most] > ALONE * sum(spent.values()) else None

    def moved_bytes(self, key: ProcessKey) -> int:
        """Return how many bytes the process has read and written in the last seconds."""
        looks = self._looks.get(key)
        return looks[-1].bytes - looks[0].bytes if looks else 0

    def bytes_so_far(self, key: ProcessKey) -> int:
        """Return how many bytes the process had read and written at the last look."""
        looks = self._looks.get(key)
        return looks[-1].bytes if looks else 0

    def rounds_per_s(self, key: ProcessKey) -> float:
        """Return how often a second the main thread was woken in the last seconds."""
        looks = self._looks.get(key)
        span = self.span_s(key)
        return (looks[-1].turns - looks[0].turns) / span if looks and span else 0.0

    def rested(self, key: ProcessKey) -> bool:
        """Return whether the main thread slept from one look to the next, not woken once, in the last seconds."""
        looks = tuple(self._looks.get(key, ()))
        return any(one.asleep and two.asleep and one.turns == two.turns for one, two in pairwise(looks))


def _io_bytes(pid: int) -> int:
    total = 0
    for line in proc.read_bytes(f"/proc/{pid}/io").splitlines()[:2]:
        total += int(line.rpartition(b":")[2])
    return total
