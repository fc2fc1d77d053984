"""What a reproducer is made of besides the scenario's program: it starts the program, watches it, and judges.

Standard library only, and no import of this project: `reports.vendor.reproducer` copies from here into one file.
The classes have the names and fields of those that oracles see (`harness.attempt`, `harness.outcome`); a test compares.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import secrets
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

CRASHES = frozenset({"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGTRAP", "SIGSYS"})
GRACE_S = 10.0
"""How long processes may outlive the program before they are ended, in seconds."""


class VerdictName(StrEnum):
    """What may come of a run."""

    REPRODUCED = "reproduced"
    OTHER_FAILURE = "other_failure"
    NO_VERDICT = "no_verdict"
    UNTESTABLE = "untestable"
    ABSENT = "absent"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was concluded, and why."""

    name: VerdictName
    signature: str | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdict, and what was really in effect."""

    verdict: Verdict
    effective: Mapping[str, str] = field(default_factory=dict)
    patches: tuple[str, ...] = ()
    throughput: Mapping[str, float] | None = None


class ProcessKey(NamedTuple):
    """Identity of a process: the pid alone can be used again."""

    pid: int
    start: int


@dataclass(kw_only=True)
class ExitStatus:
    """How a process ended; neither code nor signal if the kernel did not tell."""

    exit_code: int | None = None
    signal: str | None = None

    @property
    def known(self) -> bool:
        """Whether the kernel told."""
        return self.exit_code is not None or self.signal is not None

    def describe(self) -> str:
        """Return ``SIGSEGV``, ``exit 3`` or ``status unknown``."""
        if self.signal is not None:
            return self.signal
        return "status unknown" if self.exit_code is None else f"exit {self.exit_code}"


@dataclass(kw_only=True)
class Process:
    """One process of the tree; times are monotonic nanoseconds."""

    key: ProcessKey
    ppid: int
    parent: ProcessKey | None
    names: tuple[str, ...]
    born_ns: int
    died_ns: int | None = None
    status: ExitStatus | None = None
    ended_by: str = ""
    orphaned_s: float = 0.0
    pidfd: int = -1

    @property
    def name(self) -> str:
        """The last full title."""
        return self.names[-1]

    def was(self, pattern: str) -> bool:
        """Whether any of its titles matches from its beginning."""
        return any(re.match(pattern, name) for name in self.names)

    def alive_at(self, t_ns: int) -> bool:
        """Whether it had been born and was not dead at that moment."""
        return self.born_ns <= t_ns and (self.died_ns is None or self.died_ns > t_ns)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that the program said."""

    name: str
    pid: int
    t_ns: int
    data: Mapping[str, Any]
    state: str = "mark"


@dataclass(kw_only=True)
class FaultRecord:
    """What became of a signal that was to be sent."""

    fault: str
    attempted_ns: int
    key: ProcessKey | None = None
    confirmed: bool = False
    undone: bool = False
    not_undone: str = ""
    detail: str = ""


@dataclass(kw_only=True)
class Attempt:
    """All that was seen of the run."""

    params: Mapping[str, str]
    started_ns: int
    cell: str = ""
    attempt: int = 1
    end: str | None = None
    wall_s: float = 0.0
    detail: str = ""
    stopped_ns: int | None = None
    nonce: bool = False
    processes: tuple[Process, ...] = ()
    marks: tuple[Mark, ...] = ()
    phases: tuple[Mark, ...] = ()
    faults: tuple[FaultRecord, ...] = ()
    leftovers: tuple[Any, ...] = ()
    suspicions: tuple[Any, ...] = ()
    stacks: tuple[str, ...] = ()
    standing: tuple[Any, ...] = ()
    gpu_samples: tuple[Any, ...] = ()
    effective: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def mark(self, name: str) -> Mark | None:
        """Return the first observation of that name."""
        return next((mark for mark in self.marks if mark.name == name), None)

    def named(self, pattern: str) -> Sequence[Process]:
        """Return the processes that ever bore a matching title."""
        return [process for process in self.processes if process.was(pattern)]

    def error_types(self, mark: str) -> Sequence[str]:
        """Return the exception types of an error mark, outermost first."""
        found = self.mark(mark)
        return [str(link["type"]) for link in found.data.get("error", ())] if found else []

    def error_text(self, mark: str) -> str:
        """Return all texts of an error mark's chain, outermost first."""
        found = self.mark(mark)
        return "\n".join(str(link["text"]) for link in found.data.get("error", ())) if found else ""


@dataclass(frozen=True, kw_only=True)
class Strike:
    """A signal to the first process whose title matches, when the program says ``at``, or as soon as there is one.

    A SIGSTOP is taken back when the program says ``until``, or after ``lasts_s`` seconds, and in any case at the end.
    """

    name: str
    signal: str
    target: str
    at: str | None = None
    until: str | None = None
    lasts_s: float | None = None


class Watch:
    """Sees every descendant of this process: orphans come to it, as it is a subreaper."""

    def __init__(self, strikes: Sequence[Strike], said: Path) -> None:
        self.strikes = list(strikes)
        self.said = said
        self.attempt_marks: list[Mark] = []
        self.phases: list[Mark] = []
        self.nonce = False
        self.faults: list[FaultRecord] = []
        self.stopped: list[tuple[Strike, FaultRecord, Process]] = []
        self.ended_ns: int | None = None
        self.seen: dict[ProcessKey, Process] = {}
        self.read = 0
        self.titled = 0.0
        if ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) != 0:  # PR_SET_CHILD_SUBREAPER
            sys.exit("this kernel lets no process adopt orphans (PR_SET_CHILD_SUBREAPER): Linux is needed")

    @property
    def alive(self) -> list[Process]:
        """The processes that have not been seen dead."""
        return [process for process in self.seen.values() if process.died_ns is None]

    def look(self, main: int) -> None:
        """Notice births, titles, deaths and words, and send what is due."""
        self._births()
        self._deaths(main)
        self._words()
        for strike in list(self.strikes):
            if strike.at is None or self._said(strike.at):
                self._strike(strike)
        for stop in list(self.stopped):
            strike, record, _ = stop
            seconds = (time.monotonic_ns() - record.attempted_ns) / 1e9
            if self._said(strike.until) or (strike.lasts_s is not None and seconds >= strike.lasts_s):
                self._go_on(stop)

    def end_all(self, number: int, word: str) -> None:
        """Signal whatever is left, by its pidfd; who is stopped could not obey."""
        for stop in list(self.stopped):
            self._go_on(stop)
        for process in self.alive:
            self.ended_ns = self.ended_ns or time.monotonic_ns()
            process.ended_by = process.ended_by or word
            try:
                signal.pidfd_send_signal(process.pidfd, number)
            except ProcessLookupError:
                continue

    def _births(self) -> None:
        table = {pid: stat for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if (stat := _stat(pid))}
        retitle = time.monotonic() - self.titled > 0.05  # noqa: PLR2004
        for pid, (ppid, start) in table.items():
            key = ProcessKey(pid, start)
            known = self.seen.get(key)
            if known is None and _descends(pid, table):
                try:
                    pidfd = os.pidfd_open(pid)
                except OSError:
                    continue
                parent = next((one.key for one in self.alive if one.key.pid == ppid), None)
                self.seen[key] = known = Process(
                    key=key, ppid=ppid, parent=parent, names=(_title(pid),), born_ns=time.monotonic_ns(), pidfd=pidfd
                )
            elif known is not None and retitle and (title := _title(pid)) and title != known.name:
                known.names = (*known.names, title)
        if retitle:
            self.titled = time.monotonic()

    def _deaths(self, main: int) -> None:
        waiting = {process.pidfd: process for process in self.alive}
        poll = select.poll()
        for pidfd in waiting:
            poll.register(pidfd, select.POLLIN)
        for pidfd, _ in poll.poll(0):
            process = waiting[pidfd]
            status = _zombie_status(process.key.pid)
            if process.key.pid == main:
                status = status if status is not None else _told(pidfd)
            else:
                try:
                    status = os.waitpid(process.key.pid, os.WNOHANG)[1]
                except ChildProcessError:
                    told = _told(pidfd)
                    status = told if told is not None else status
            process.status = _decode(status)
            process.died_ns = time.monotonic_ns()
            parent = self.seen.get(process.parent) if process.parent else None
            if parent is not None and parent.died_ns is not None:
                process.orphaned_s = (process.died_ns - parent.died_ns) / 1e9

    def _words(self) -> None:
        if not self.said.exists():
            return
        with self.said.open("rb") as said:
            said.seek(self.read)
            whole = said.read().rpartition(b"\n")[0]
        self.read += len(whole) + bool(whole)
        for line in whole.splitlines():
            word = json.loads(line)
            if "nonce" in word:
                self.nonce = True
                continue
            name = word.get("mark") or word["phase"]
            mark = Mark(
                name=name, pid=word["pid"], t_ns=word["t_ns"], data=word["data"], state=word.get("state", "mark")
            )
            (self.attempt_marks if "mark" in word else self.phases).append(mark)
            print(
                f"  {mark.name} {'' if mark.state == 'mark' else mark.state} {json.dumps(mark.data)[:300]}", flush=True
            )

    def _strike(self, strike: Strike) -> None:
        victim = next((process for process in self.alive if process.was(strike.target)), None)
        if victim is None:
            return
        self.strikes.remove(strike)
        record = FaultRecord(fault=strike.name, attempted_ns=time.monotonic_ns(), key=victim.key)
        signal.pidfd_send_signal(victim.pidfd, signal.Signals[strike.signal])
        if strike.signal == "SIGSTOP":
            self.stopped.append((strike, record, victim))
        else:
            victim.ended_by = f"fault:{strike.name}"
        record.confirmed = True
        self.faults.append(record)
        print(f"  {strike.signal} sent to {victim.name[:60]} (pid {victim.key.pid})", flush=True)

    def _go_on(self, stop: tuple[Strike, FaultRecord, Process]) -> None:
        self.stopped.remove(stop)
        _, record, victim = stop
        try:
            signal.pidfd_send_signal(victim.pidfd, signal.SIGCONT)
        except ProcessLookupError:
            return
        record.undone = True
        print(f"  SIGCONT sent to {victim.name[:60]} (pid {victim.key.pid})", flush=True)

    def _said(self, name: str | None) -> bool:
        return any(mark.name == name for mark in self.attempt_marks)


def reproduce(  # noqa: PLR0913 - the parts of one run
    *,
    params: Mapping[str, str],
    env: Mapping[str, str],
    strikes: Sequence[Strike],
    oracle: Callable[[Attempt], Judgement],
    deadline_s: float,
    expected: str,
    modules: Mapping[str, str],
) -> int:
    """Run the program of this file in a process of its own, watch it, print the verdict; 1 if the failure showed.

    What the program starts as modules of their own are functions of this file, ``modules``.
    """
    scratch = Path(tempfile.mkdtemp(prefix="rp-", dir="/tmp"))
    this = Path(sys.argv[0]).resolve()
    _make_modules(scratch, this.stem, modules)
    watch = Watch(strikes, scratch / "said.jsonl")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(scratch), str(this.parent), os.environ.get("PYTHONPATH", "")])),
        "TMPDIR": str(scratch),
        "CRASHCART_CACHE": str(scratch / "cache"),
        **env,
        "CRASHCART_PARAMS": json.dumps(dict(params)),
        "CRASHCART_PHASES": str(watch.said),
        "CRASHCART_NONCE": secrets.token_hex(8),
        "CRASHCART_SCRATCH": str(scratch),
        "REPRODUCER_PROGRAM": "1",
    }
    started = time.monotonic_ns()
    with (scratch / "stdout").open("wb") as out, (scratch / "stderr").open("wb") as err:
        program = subprocess.Popen(
            [sys.executable, str(this)], env=environment, cwd=scratch, stdout=out, stderr=err, start_new_session=True
        )
    end = "deadline"
    while time.monotonic_ns() - started < deadline_s * 1e9:
        watch.look(program.pid)
        if program.poll() is not None:
            end = "exited"
            break
        time.sleep(0.005)
    _stop(watch, program, GRACE_S if end == "exited" else 0.0)
    attempt = Attempt(
        params=params,
        started_ns=started,
        end=end,
        wall_s=(time.monotonic_ns() - started) / 1e9,
        stopped_ns=watch.ended_ns,
        nonce=watch.nonce,
        processes=tuple(watch.seen.values()),
        marks=tuple(watch.attempt_marks),
        phases=tuple(watch.phases),
        faults=tuple(watch.faults),
    )
    return _conclude(attempt, oracle(attempt), scratch, expected)


def _make_modules(folder: Path, stem: str, modules: Mapping[str, str]) -> None:
    """Make modules that call functions of this file, for ``python -m``: their names are then titles of processes."""
    for module, function in modules.items():
        path = folder.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        for package in path.relative_to(folder).parents[:-1]:
            (folder / package / "__init__.py").touch()
        path.write_text(f"import {stem}\n\nif __name__ == '__main__':\n    {stem}.{function}()\n", encoding="utf-8")


def _stop(watch: Watch, program: subprocess.Popen[bytes], grace_s: float) -> None:
    """Give what is left some time, then end it: it must be gone before the next run."""
    for number, word, wait_s in (
        (0, "", grace_s),
        (signal.SIGTERM, "stop:term", 5.0),
        (signal.SIGKILL, "stop:kill", 10.0),
    ):
        if number:
            watch.end_all(number, word)
        until = time.monotonic() + wait_s
        while watch.alive and time.monotonic() < until:
            watch.look(program.pid)
            program.poll()
            time.sleep(0.01)


def _conclude(attempt: Attempt, judgement: Judgement, scratch: Path, expected: str) -> int:
    verdict = judgement.verdict
    if verdict.name is VerdictName.ABSENT and not attempt.nonce:
        verdict = Verdict(
            name=VerdictName.OTHER_FAILURE,
            signature="the program did not come to its end",
            reasons=(f"ended by {attempt.end}", *_last_lines(scratch / "stderr")),
        )
    if verdict.name is VerdictName.OTHER_FAILURE:
        verdict = Verdict(
            name=verdict.name, signature=verdict.signature, reasons=(*verdict.reasons, *_last_lines(scratch / "stderr"))
        )
    for axis, value in judgement.effective.items():
        if attempt.params.get(axis, value) not in {value, "installed"}:
            verdict = Verdict(
                name=VerdictName.UNTESTABLE,
                reasons=(
                    f"{axis}={attempt.params[axis]} is wanted, in effect is {value}: install that, and run again",
                ),
            )
    print(f"\n{verdict.name.value}{': ' + verdict.signature if verdict.signature else ''} ({attempt.wall_s:.0f} s)")
    print("".join(f"  {reason}\n" for reason in verdict.reasons), end="")
    died = [process for process in attempt.processes if process.status is not None and process.status.signal in CRASHES]
    print(
        "".join(f"  {one.name[:60]} (pid {one.key.pid}) died of {one.status.signal}\n" for one in died if one.status),
        end="",
    )
    code = {VerdictName.REPRODUCED: 1, VerdictName.ABSENT: 0}.get(verdict.name, 2)
    print(
        f"{['PASSED', 'FAILURE SHOWN', 'NO ANSWER'][code]} (exit code {code}); expected where this was made: {expected}"
    )
    if code == 2:  # noqa: PLR2004
        print(f"output of the program: {scratch}/stdout and stderr")
    else:
        shutil.rmtree(scratch, ignore_errors=True)
    return code


def _last_lines(path: Path) -> tuple[str, ...]:
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return tuple(line[:300] for line in lines[-3:])


def _stat(pid: int) -> tuple[int, int] | None:
    """Return parent and start time of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[1]), int(fields[19])


def _descends(pid: int, table: Mapping[int, tuple[int, int]]) -> bool:
    me = os.getpid()
    while pid in table:
        pid = table[pid][0]
        if pid == me:
            return True
    return False


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _zombie_status(pid: int) -> int | None:
    """Return the wait status that the kernel shows of a zombie (field 52 of its stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[49]) if fields[0] == b"Z" else None


def _told(pidfd: int) -> int | None:
    """Return the wait status of a process that its own parent has reaped (PIDFD_GET_INFO, Linux 6.15)."""
    layout = struct.Struct("=QQ11Ii")
    buffer = bytearray(layout.size)
    struct.pack_into("=Q", buffer, 0, 1 << 3)
    try:
        fcntl.ioctl(pidfd, (3 << 30) | (layout.size << 16) | (0xFF << 8) | 11, buffer)
    except OSError:
        return None
    fields = layout.unpack(buffer)
    return int(fields[-1]) if fields[0] & (1 << 3) else None


def _decode(status: int | None) -> ExitStatus:
    if status is None:
        return ExitStatus()
    number = status & 0x7F
    return ExitStatus(signal=signal.Signals(number).name) if number else ExitStatus(exit_code=status >> 8 & 0xFF)
