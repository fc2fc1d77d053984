"""Stacks of every process of a tree: the least intrusive tool first, a few processes at a time, one shared deadline.

What /proc says of the threads of a process is written first; it needs no tracing stop. Then one tool after another is
tried on it until one gives a stack. Identity is checked before and after, partial results are kept and marked, and a
target that a tool has left stopped is continued. For how long a tracer held it is measured by asking /proc meanwhile.
Names that can be found without holding the target (`StackTool.names`) are found afterwards.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import msgspec

from harness.events import HarnessNote, ProcessKey, StacksCaptured
from harness.probes import nccl_ras, proc
from harness.probes.gpu import Unavailable
from harness.probes.stack_tools import StackTool, tools_for, tracer_of
from harness.probes.threads import read_waits
from harness.record import Sink
from harness.stacks import eu_stack, joined
from harness.stacks.model import Process
from harness.supervise.flight import FlightRecorders

PARALLEL: Final = (os.cpu_count() or 1) + 2
"""Tools at once: as many as there are processors, and some that fill the gap between an end and the next start."""
PROJECT: Final = str(Path(__file__).resolve().parents[2])
RAS: Final = "nccl-ras.txt"
TOTAL_S: Final = 20.0
"""For the whole tree, in seconds; what is not done by then is marked so."""


@dataclass(slots=True)
class _Target:
    key: ProcessKey
    tools: list[StackTool] | None = None
    """What has not been tried on it; ``None`` before its turn."""
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is worth telling, though nothing is missing because of it."""
    half: _Dump | None = None
    """Python frames without native ones: kept until another tool gives more."""
    held_s: float = 0.0
    held_error_s: float = 0.0


@dataclass(slots=True)
class _Dump:
    target: _Target
    tool: StackTool
    child: subprocess.Popen[bytes]
    out: IO[bytes]
    path: Path
    started: float
    was_stopped: bool
    then: tuple[str, ...]
    """What is still to be run on it, into the same file."""
    looked: float
    """When the target was last asked whether it is being traced."""
    held: bool = False
    """Whether it was, then."""


@dataclass(slots=True)
class _Naming:
    """The search for the names of a dump that has been taken; what is not found in time stays an address."""

    dump: _Dump
    text: str
    mapped: Sequence[proc.MappedFile]
    child: subprocess.Popen[bytes]
    answers: IO[bytes]
    until: float


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
        self._waiting = [_Target(key) for key in keys]
        self._without = without
        self._running: list[_Dump] = []
        self._nameless: list[_Dump] = []
        self._naming: _Naming | None = None
        """One at a time, so that what one finds need not be looked for again by the next."""
        self._names = eu_stack.Names()
        self._folder = folder
        self._sink = sink
        self._helpers = helpers
        self._deadline = time.monotonic() + TOTAL_S
        self.done = False
        self.captures: list[StacksCaptured] = []
        for key in keys[:PARALLEL]:
            self._write_waits(key)
        for _ in keys[:PARALLEL]:
            self._start(self._waiting.pop(0))
        for key in keys[PARALLEL:]:
            self._write_waits(key)
        self._ras = self._ask_nccl([key.pid for key in keys])
        self._flight = FlightRecorders(
            [key.pid for key in keys] if "flight_recorder" not in without else [], folder, sink
        )

    def advance(self) -> bool:
        """Start and collect dumps; true when all are done."""
        now = time.monotonic()
        for dump in list(self._running):
            self._measure(dump)
            if dump.child.poll() is not None or now > min(self._deadline, dump.started + dump.tool.seconds):
                self._collect(dump)
        if self._naming is not None and (self._naming.child.poll() is not None or now > self._naming.until):
            self._collect_names(self._naming)
        while self._nameless and self._naming is None:
            self._find_names(self._nameless.pop(0))
        while self._waiting and len(self._running) + (self._naming is not None) < PARALLEL:
            self._start(self._waiting.pop(0))
        if self._ras is not None and (self._ras.poll() is not None or now > self._deadline):
            self._collect_ras(self._ras)
            self._ras = None
        recorded = self._flight.advance()
        unfinished = self._waiting or self._running or self._nameless or self._naming or self._ras
        self.done = recorded and not unfinished
        return self.done

    def close(self) -> None:
        """End what still runs, and keep what there is."""
        self._deadline = 0.0
        if self._naming is not None:
            self._naming.until = 0.0
        self._flight.give_up()
        while not self.advance():
            pass

    def _measure(self, dump: _Dump) -> None:
        """Add up for how long the target was held: the time between two looks counts if one of them saw a tracer."""
        now, held = time.monotonic(), tracer_of(dump.target.key.pid) != 0
        if held or dump.held:
            dump.target.held_s += now - dump.looked
        dump.target.held_error_s = max(dump.target.held_error_s, 2 * (now - dump.looked))
        dump.looked, dump.held = now, held

    def _ask_nccl(self, pids: Sequence[int]) -> subprocess.Popen[bytes] | None:
        """Ask NCCL's own service for its view, in a process of its own; a tree without NCCL is not worth a note."""
        service = nccl_ras.find_service(pids)
        if isinstance(service, Unavailable):
            if "has NCCL loaded" not in service.reason:
                self._sink(HarnessNote(note=f"NCCL's RAS service was not asked: {service.reason}"))
            return None
        argv = (sys.executable, "-m", "harness.probes.nccl_ras", service[0], str(service[1]))
        try:
            with (self._folder / RAS).open("wb") as out:
                child = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, start_new_session=True,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join([PROJECT, os.environ.get("PYTHONPATH", "")])},
                )  # fmt: skip
        except OSError as error:
            (self._folder / RAS).unlink(missing_ok=True)
            self._sink(HarnessNote(note=f"NCCL's RAS service was not asked: {error}"))
            return None
        self._helpers.add(child.pid)
        return child

    def _collect_ras(self, child: subprocess.Popen[bytes]) -> None:
        if child.poll() is None:
            child.kill()
        _, said = child.communicate()
        path = self._folder / RAS
        if path.stat().st_size:
            self._sink(HarnessNote(note=f"NCCL's RAS service said what stands in {self._folder.name}/{RAS}"))
            return
        path.unlink()
        self._sink(HarnessNote(note=f"no word from {said.decode(errors='replace').strip()[-200:] or 'NCCL in time'}"))

    def _write_waits(self, key: ProcessKey) -> None:
        started = time.monotonic()
        waits = read_waits(key.pid)
        path = self._folder / f"{key.pid}-{key.start}.proc.json"
        path.write_bytes(msgspec.json.encode(waits))
        self._say(key, "proc", path, time.monotonic() - started, "" if waits else "gone")

    def _start(self, target: _Target) -> None:
        key = target.key
        if target.tools is None:
            target.tools = list(tools_for(key.pid, self._without))
        obstacle = ""
        if not proc.is_alive(key):
            obstacle = "gone before its stack could be taken"
        elif time.monotonic() > self._deadline:
            obstacle = "not tried: the time for all captures was up"
        elif tracer := tracer_of(key.pid):
            obstacle = f"already traced by pid {tracer}"
        elif not target.tools:
            obstacle = "; ".join(target.failures) or "none of py-spy, pystack, eu-stack and gdb is installed"
        if obstacle and target.half is not None:
            target.failures.append(obstacle)
            self._finish(target.half)
            return
        if obstacle:
            self._say(key, "none", None, 0.0, obstacle, target)
            return
        tool = target.tools.pop(0)
        path = self._folder / f"{key.pid}-{key.start}.{tool.suffix}"
        out = path.open("wb")
        stat = proc.read_stat(key.pid)
        stopped = stat is not None and stat.state == "T"
        try:
            child = self._run(tool.argv, out)
        except OSError as error:  # the machine has no room for another process, or the tool is gone
            out.close()
            path.unlink()
            target.failures.append(f"{tool.name}: {error}")
            self._waiting.insert(0, target)
            return
        now = time.monotonic()
        self._running.append(_Dump(target, tool, child, out, path, now, stopped, tool.then, now))

    def _run(
        self, argv: Sequence[str], out: IO[bytes], *, errors: int = subprocess.PIPE, asks: IO[bytes] | None = None
    ) -> subprocess.Popen[bytes]:
        given = subprocess.DEVNULL if asks is None else asks
        child = subprocess.Popen(argv, stdin=given, stdout=out, stderr=errors, start_new_session=True)
        self._helpers.add(child.pid)
        return child

    def _collect(self, dump: _Dump) -> None:
        timed_out = dump.child.poll() is None
        if timed_out:
            dump.child.kill()
        _, said = dump.child.communicate()
        self._measure(dump)
        fine = not timed_out and not dump.child.returncode
        if dump.then and fine and time.monotonic() < self._deadline:
            dump.out.write(b"\n")
            dump.out.flush()
            try:
                dump.child, dump.then = self._run(dump.then, dump.out), ()
            except OSError as error:
                said = str(error).encode()
            else:
                return
        dump.out.close()
        self._running.remove(dump)
        self._continue(dump)
        target = dump.target
        failure = "cut off after its time" if timed_out else said.decode(errors="replace").strip()[-200:]
        gone = "" if proc.is_alive(target.key) else "the process was gone afterwards"
        if dump.tool.then and (not fine or dump.then or gone):  # py-spy with native frames may give as much
            target.notes.append(f"{dump.tool.name}: {failure or gone or f'ended with {dump.child.returncode}'}")
            self._retry(dump)
        elif dump.path.stat().st_size and (timed_out or fine):
            target.failures += [part for part in (failure if timed_out else "", gone) if part]
            if dump.tool.names and not gone:
                self._nameless.append(dump)
            else:
                self._finish(dump)
        else:
            target.failures.append(f"{dump.tool.name}: {failure or f'ended with {dump.child.returncode}'}")
            self._retry(dump)

    def _retry(self, dump: _Dump) -> None:
        """Leave it to the next tool; keep Python's half, if there is one."""
        half = joined.python_half(_text(dump.path)) if dump.tool.then else ""
        if half:
            dump.path.write_text(half, errors="replace")
            dump.target.half = dump
        else:
            dump.path.unlink()
        self._waiting.insert(0, dump.target)

    def _finish(self, dump: _Dump) -> None:
        target = dump.target
        if target.half is not None and target.half is not dump:
            target.half.path.unlink()
        seconds = time.monotonic() - dump.started
        self._say(target.key, dump.tool.name, dump.path, seconds, "; ".join(target.failures), target)

    def _find_names(self, dump: _Dump) -> None:
        """Start to look for the names of a dump that no dump before it had, if there are any and there is time."""
        text, mapped = _text(dump.path), proc.mapped_files(dump.target.key.pid)
        unknown = self._names.unknown(text, mapped)
        if not unknown or time.monotonic() > self._deadline:
            self._name(dump, text, mapped, "not looked for: the time for all captures was up" if unknown else "")
            return
        answers = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed where it is read
        with tempfile.TemporaryFile() as asks:
            asks.write("\n".join([*unknown, ""]).encode())
            asks.seek(0)
            try:
                child = self._run(dump.tool.names, answers, errors=subprocess.DEVNULL, asks=asks)
            except OSError as error:
                answers.close()
                self._name(dump, text, mapped, str(error))
                return
        until = min(self._deadline, time.monotonic() + dump.tool.seconds)
        self._naming = _Naming(dump, text, mapped, child, answers, until)

    def _collect_names(self, naming: _Naming) -> None:
        timed_out = naming.child.poll() is None
        if timed_out:
            naming.child.kill()
        status = naming.child.wait()
        failure = "cut off after their time" if timed_out else f"ended with {status}" if status else ""
        self._naming = None
        with naming.answers as answers:
            answers.seek(0)
            self._names.learn(naming.text, naming.mapped, answers.read().decode(errors="replace"))
        self._name(naming.dump, naming.text, naming.mapped, failure)

    def _name(self, dump: _Dump, text: str, mapped: Sequence[proc.MappedFile], failure: str) -> None:
        """Write a dump with its names, if its halves belong together; else it is left to the next tool."""
        named = self._names.fill(text, mapped)
        dump.path.write_text(named, errors="replace")
        target = dump.target
        moved = joined.moved(named, Process(target.key)) if dump.tool.then else 0
        if moved is None:
            why = f"names: {failure}" if failure else "the interpreter's loop has no symbol"
            target.notes.append(f"{dump.tool.name}: {why}")
            self._retry(dump)
            return
        if failure:
            target.failures.append(f"names: {failure}")
        if moved:
            threads, whose = ("1 thread", "its") if moved == 1 else (f"{moved} threads", "their")
            target.notes.append(f"{threads} ran on between the two tools: only {whose} Python frames are kept")
        self._finish(dump)

    def _continue(self, dump: _Dump) -> None:
        """Let a target go on that the tool has left stopped."""
        stat = proc.read_stat(dump.target.key.pid)
        if not dump.was_stopped and stat is not None and stat.key == dump.target.key and stat.state == "T":
            os.kill(stat.pid, signal.SIGCONT)
            dump.target.failures.append(f"{dump.tool.name} had left it stopped; it was continued")

    def _say(  # noqa: PLR0913, PLR0917 - the parts of one event
        self,
        key: ProcessKey,
        tool: str,
        path: Path | None,
        seconds: float,
        detail: str,
        target: _Target | None = None,
    ) -> None:
        notes = target.notes if target is not None else []
        captured = StacksCaptured(
            key=key,
            tool=tool,
            path=f"{self._folder.name}/{path.name}" if path is not None else "",
            seconds=round(seconds, 3),
            held_s=round(target.held_s, 4) if target is not None else 0.0,
            held_error_s=round(target.held_error_s, 4) if target is not None else 0.0,
            partial=bool(detail),
            detail="; ".join([*notes, *filter(None, [detail])]),
        )
        self.captures.append(captured)
        self._sink(captured)


def _text(path: Path) -> str:
    """Return a dump; what a killed tool left of a character, or a path that is no UTF-8, ends no capture."""
    return path.read_bytes().decode(errors="replace")
