"""Orders dumps of PyTorch's flight recorder where a tree has one, and writes next to the stacks what they say together.

No process is stopped for it: a thread of the process group itself writes the file, if the process can still run it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.events import HarnessNote
from harness.probes.flight_recorder import Recorder, find_recorders, load, order_dump, summarise
from harness.record import Sink

SUMMARY: Final = "flight-recorder.txt"
WAIT_S: Final = 8.0
"""How long a dump may take: 3.5 s on two H200s; the thread that watches the pipe looks once a second."""


@dataclass(slots=True)
class _Order:
    """A dump that was ordered, as far as it has come."""

    recorder: Recorder
    version: tuple[int, int] = (-1, -1)
    """Size and time of change of the file when it was read last: a big one is not read at every look."""
    data: bytes = b""
    wrong: str = ""
    """Why it cannot be read, empty while there is none."""


class FlightRecorders:
    """The dumps of one capture; `advance` never blocks."""

    def __init__(self, pids: Sequence[int], folder: Path, sink: Sink) -> None:
        self._folder = folder
        self._sink = sink
        self._ordered_ns = time.time_ns()
        self._until = time.monotonic() + WAIT_S
        self._waiting = [_Order(recorder) for recorder in find_recorders(pids) if self._order(recorder)]
        self._asked = bool(self._waiting)
        self._dumps: dict[str, dict[str, Any]] = {}

    def advance(self) -> bool:
        """Collect the dumps that are there; true when nothing more is waited for."""
        if not self._asked:
            return True
        self._waiting = [order for order in self._waiting if not self._collect(order)]
        if self._waiting and time.monotonic() < self._until:
            return False
        for order in self._waiting:
            self._give_up(order)
        self._waiting = []
        self._asked = False
        if self._dumps:
            self._tell()
        return True

    def _order(self, recorder: Recorder) -> bool:
        try:
            order_dump(recorder)
        except OSError as error:
            self._sink(HarnessNote(note=f"the flight recorder of pid {recorder.pid} takes no orders: {error}"))
            return False
        return True

    def _collect(self, order: _Order) -> bool:
        """Keep a dump that is newer than the order and whole."""
        dump = order.recorder.dump
        try:
            stat = dump.stat()
            version = (stat.st_size, stat.st_mtime_ns)
            if stat.st_mtime_ns < self._ordered_ns or version == order.version:
                return False
            data = dump.read_bytes()
        except OSError:
            return False  # not there yet
        order.version = version
        if order.wrong and data == order.data:
            return False  # it had been written between that look and its reading
        order.data = data
        try:
            self._dumps[order.recorder.rank] = load(order.data)
        except ValueError as error:
            order.wrong = str(error)  # or not yet whole
            return False
        self._keep(order)
        return True

    def _give_up(self, order: _Order) -> None:
        pid = order.recorder.pid
        if not order.wrong:
            self._sink(HarnessNote(note=f"the flight recorder of pid {pid} wrote nothing in {WAIT_S:g} s"))
            return
        self._sink(HarnessNote(note=f"what the flight recorder of pid {pid} wrote is {order.wrong}"))
        self._keep(order)

    def _keep(self, order: _Order) -> None:
        (self._folder / f"flight-recorder-{order.recorder.rank}.pickle").write_bytes(order.data)

    def _tell(self) -> None:
        lines = summarise(self._dumps)
        (self._folder / SUMMARY).write_text("".join(f"{line}\n" for line in lines))
        for line in lines:
            self._sink(HarnessNote(note=f"flight recorder, {line}"))

    def give_up(self) -> None:
        """Wait no longer."""
        self._until = 0.0
