"""Stacks of every process of the tree: py-spy over all of them, a few at a time, under one deadline."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from harness.events import StacksCaptured
from harness.probes import proc
from harness.probes.py_spy import find_py_spy
from harness.record import Sink
from harness.supervise.ledger import Entry

PARALLEL: Final = max(2, os.cpu_count() or 2)
PER_PROCESS_S: Final = 6.0
TOTAL_S: Final = 15.0


@dataclass(slots=True)
class _Dump:
    entry: Entry
    child: subprocess.Popen[bytes]
    out: IO[bytes]
    path: Path
    started: float


class CaptureJob:
    """One pass over the tree; `advance` is called from the supervisor's loop and never blocks."""

    def __init__(self, entries: list[Entry], folder: Path, sink: Sink, helpers: set[int]) -> None:
        self._waiting = [entry for entry in entries if entry.running]
        self._running: list[_Dump] = []
        self._folder = folder
        self._sink = sink
        self._helpers = helpers
        self._tool = find_py_spy()
        self._deadline = time.monotonic() + TOTAL_S
        folder.mkdir(exist_ok=True)

    def advance(self) -> bool:
        """Start and collect dumps; true when all are done."""
        now = time.monotonic()
        for dump in list(self._running):
            if dump.child.poll() is not None or now > min(self._deadline, dump.started + PER_PROCESS_S):
                self._collect(dump)
        while self._waiting and len(self._running) < PARALLEL:
            self._start(self._waiting.pop(0))
        return not self._waiting and not self._running

    def _start(self, entry: Entry) -> None:
        if time.monotonic() > self._deadline:
            self._fail(entry, "py-spy", "not tried: the time for all captures was up")
        elif self._tool is None:
            self._fail(entry, "none", "no stack tool: py-spy is not installed")
        elif not proc.is_alive(entry.key):
            self._fail(entry, "py-spy", "gone before its stack could be taken")
        else:
            path = self._folder / f"{entry.key.pid}-{entry.key.start}.txt"
            out = path.open("wb")
            child = subprocess.Popen(
                [self._tool, "dump", "--pid", str(entry.key.pid)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._helpers.add(child.pid)
            self._running.append(_Dump(entry, child, out, path, time.monotonic()))

    def _collect(self, dump: _Dump) -> None:
        timed_out = dump.child.poll() is None
        if timed_out:
            dump.child.kill()
        code = dump.child.wait()
        dump.out.close()
        self._running.remove(dump)
        same = proc.is_alive(dump.entry.key)
        detail = "cut off after its time" if timed_out else "" if code == 0 else f"py-spy ended with {code}"
        if not same:
            detail = (detail + "; " if detail else "") + "the process was gone afterwards"
        self._sink(
            StacksCaptured(
                key=dump.entry.key,
                tool="py-spy",
                path=f"{self._folder.name}/{dump.path.name}",
                seconds=time.monotonic() - dump.started,
                partial=bool(detail),
                detail=detail,
            )
        )

    def _fail(self, entry: Entry, tool: str, detail: str) -> None:
        self._sink(StacksCaptured(key=entry.key, tool=tool, path="", seconds=0.0, partial=True, detail=detail))
