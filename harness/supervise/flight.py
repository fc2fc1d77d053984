"""Orders dumps of PyTorch's flight recorder where a tree has one, and writes next to the stacks what they say together.

No process is stopped for it: a thread of the process group itself writes the file, if the process can still run it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from harness.events import HarnessNote
from harness.probes.flight_recorder import Recorder, find_recorders, load, order_dump, summarise
from harness.record import Sink

SUMMARY: Final = "flight-recorder.txt"
WAIT_S: Final = 8.0
"""How long a dump may take: 3.5 s on two H200s; the thread that watches the pipe looks once a second."""


class FlightRecorders:
    """The dumps of one capture; `advance` never blocks."""

    def __init__(self, pids: Sequence[int], folder: Path, sink: Sink) -> None:
        self._folder = folder
        self._sink = sink
        self._ordered_ns = time.time_ns()
        self._until = time.monotonic() + WAIT_S
        self._waiting = [recorder for recorder in find_recorders(pids) if self._order(recorder)]
        self._asked = bool(self._waiting)
        self._dumps: dict[str, dict[str, Any]] = {}

    def advance(self) -> bool:
        """Collect the dumps that are there; true when nothing more is waited for."""
        if not self._asked:
            return True
        self._waiting = [recorder for recorder in self._waiting if not self._collect(recorder)]
        if self._waiting and time.monotonic() < self._until:
            return False
        for recorder in self._waiting:
            self._sink(HarnessNote(note=f"the flight recorder of pid {recorder.pid} wrote nothing in {WAIT_S:g} s"))
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

    def _collect(self, recorder: Recorder) -> bool:
        """Keep a dump that is newer than the order and whole."""
        try:
            if recorder.dump.stat().st_mtime_ns < self._ordered_ns:
                return False
            data = recorder.dump.read_bytes()
            self._dumps[recorder.rank] = load(data)
        except (OSError, ValueError):
            return False  # not there yet, or not yet whole
        (self._folder / f"flight-recorder-{recorder.rank}.pickle").write_bytes(data)
        return True

    def _tell(self) -> None:
        lines = summarise(self._dumps)
        (self._folder / SUMMARY).write_text("".join(f"{line}\n" for line in lines))
        for line in lines:
            self._sink(HarnessNote(note=f"flight recorder, {line}"))

    def give_up(self) -> None:
        """Wait no longer."""
        self._until = 0.0
