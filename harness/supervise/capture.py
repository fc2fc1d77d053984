"""Stacks of every process of a tree: the least intrusive tool first, a few processes at a time, one shared deadline.

What /proc says of every thread is written first; it needs no tracing stop. Then one tool after another is tried on each
process until one gives a stack. Identity is checked before and after, partial results are kept and marked, and a target
that a tool has left stopped is continued.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Final

from harness.events import ProcessKey, StacksCaptured
from harness.probes import proc
from harness.probes.stack_tools import StackTool, tools_for, tracer_of
from harness.probes.threads import read_waits
from harness.record import Sink

PARALLEL: Final = (os.cpu_count() or 1) + 1
"""Tools at once: as many as there are processors, and one that fills the gap between an end and the next start."""
TOTAL_S: Final = 20.0
"""For the whole tree, in seconds; what is not done by then is marked so."""


@dataclass(slots=True)
class _Target:
    key: ProcessKey
    tools: list[StackTool] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Dump:
    target: _Target
    tool: StackTool
    child: subprocess.Popen[bytes]
    out: IO[bytes]
    path: Path
    started: float
    was_stopped: bool


class CaptureJob:
    """One pass over a tree; `advance` never blocks, so that a supervisor can go on watching meanwhile."""

    def __init__(
        self,
        keys: Sequence[ProcessKey],
        folder: Path,
        sink: Sink,
        helpers: set[int],
        without: frozenset[str] = frozenset(),
    ) -> None:
        folder.mkdir(exist_ok=True)
        self._waiting = [_Target(key, list(tools_for(key.pid, without))) for key in keys]
        self._running: list[_Dump] = []
        self._folder = folder
        self._sink = sink
        self._helpers = helpers
        self._deadline = time.monotonic() + TOTAL_S
        self.done = False
        self.captures: list[StacksCaptured] = []
        for key in keys:
            self._write_waits(key)

    def advance(self) -> bool:
        """Start and collect dumps; true when all are done."""
        now = time.monotonic()
        for dump in list(self._running):
            if dump.child.poll() is not None or now > min(self._deadline, dump.started + dump.tool.seconds):
                self._collect(dump)
        while self._waiting and len(self._running) < PARALLEL:
            self._start(self._waiting.pop(0))
        self.done = not self._waiting and not self._running
        return self.done

    def _write_waits(self, key: ProcessKey) -> None:
        started = time.monotonic()
        waits = [asdict(wait) for wait in read_waits(key.pid)]
        path = self._folder / f"{key.pid}-{key.start}.proc.json"
        path.write_text(json.dumps(waits))
        self._say(key, "proc", path, time.monotonic() - started, "" if waits else "gone")

    def _start(self, target: _Target) -> None:
        key = target.key
        obstacle = ""
        if not proc.is_alive(key):
            obstacle = "gone before its stack could be taken"
        elif time.monotonic() > self._deadline:
            obstacle = "not tried: the time for all captures was up"
        elif tracer := tracer_of(key.pid):
            obstacle = f"already traced by pid {tracer}"
        elif not target.tools:
            obstacle = "; ".join(target.failures) or "none of py-spy, pystack, eu-stack and gdb is installed"
        if obstacle:
            self._say(key, "none", None, 0.0, obstacle)
            return
        tool = target.tools.pop(0)
        path = self._folder / f"{key.pid}-{key.start}.{tool.suffix}"
        out = path.open("wb")
        stat = proc.read_stat(key.pid)
        child = subprocess.Popen(
            tool.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, start_new_session=True
        )
        self._helpers.add(child.pid)
        stopped = stat is not None and stat.state == "T"
        self._running.append(_Dump(target, tool, child, out, path, time.monotonic(), stopped))

    def _collect(self, dump: _Dump) -> None:
        timed_out = dump.child.poll() is None
        if timed_out:
            dump.child.kill()
        _, said = dump.child.communicate()
        dump.out.close()
        self._running.remove(dump)
        self._continue(dump)
        seconds = time.monotonic() - dump.started
        failure = "cut off after its time" if timed_out else said.decode(errors="replace").strip()[-200:]
        if dump.path.stat().st_size and (timed_out or not dump.child.returncode):
            gone = "" if proc.is_alive(dump.target.key) else "the process was gone afterwards"
            detail = "; ".join(part for part in (*dump.target.failures, failure if timed_out else "", gone) if part)
            self._say(dump.target.key, dump.tool.name, dump.path, seconds, detail)
            return
        dump.path.unlink()
        dump.target.failures.append(f"{dump.tool.name}: {failure or f'ended with {dump.child.returncode}'}")
        self._waiting.insert(0, dump.target)

    def _continue(self, dump: _Dump) -> None:
        """Let a target go on that the tool has left stopped."""
        stat = proc.read_stat(dump.target.key.pid)
        if not dump.was_stopped and stat is not None and stat.key == dump.target.key and stat.state == "T":
            os.kill(stat.pid, signal.SIGCONT)
            dump.target.failures.append(f"{dump.tool.name} had left it stopped; it was continued")

    def _say(self, key: ProcessKey, tool: str, path: Path | None, seconds: float, detail: str) -> None:
        where = f"{self._folder.name}/{path.name}" if path is not None else ""
        captured = StacksCaptured(
            key=key, tool=tool, path=where, seconds=round(seconds, 3), partial=bool(detail), detail=detail
        )
        self.captures.append(captured)
        self._sink(captured)
