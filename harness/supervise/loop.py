"""The one owner of an attempt while it runs: starts it, watches it, ends it, and records all of it in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from harness.child import COOKIE, NONCE, PHASES, SCRATCH, STYLE
from harness.events import (
    AttemptEnded,
    AttemptStarted,
    Event,
    HarnessNote,
    LeftBehind,
    PhaseMarked,
    ProcessKey,
    StopStep,
    Suspected,
)
from harness.probes import cgroup
from harness.probes.cgroup import Group
from harness.probes.connector import Connector, ConnectorUnavailableError
from harness.probes.linux import Prompt, become_subreaper
from harness.probes.sockets import listening_on
from harness.record import Sink
from harness.spec import Fault, OnHang
from harness.supervise.capture import CaptureJob
from harness.supervise.channel import PhaseChannel
from harness.supervise.cookie import new_cookie
from harness.supervise.faults.plan import FaultPlan
from harness.supervise.function import open_descriptors, start_function
from harness.supervise.gpu_watch import GpuWatch
from harness.supervise.hang import QUIET_S, HangDetector
from harness.supervise.ledger import Ledger
from harness.supervise.merged import merge_captures, standing, write_merged
from harness.supervise.observer import POLL_S, TICK_S, Observer
from harness.supervise.shm import ShmWatch
from harness.supervise.stop import Action, Course, Situation, State, step

SLOW_TICK_S: Final = 0.25
"""How often the costlier looks (titles, /dev/shm, progress display) are taken, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to start and where its evidence goes."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    folder: Path
    scratch: Path
    nonce: str
    deadline_s: float
    cwd: Path | None = None
    faults: tuple[Fault, ...] = ()
    without: frozenset[str] = frozenset()
    sources: tuple[str, ...] = ()
    attached: bool = False
    """Whether the program keeps our terminal, standard streams, folder and session, as under ``watch``."""
    spare_survivors: bool = False
    """Whether processes that outlive the program are named and left alone."""
    on_hang: OnHang = OnHang.CAPTURE
    quiet_s: float = QUIET_S
    """How long nothing may move under a declared phase, in seconds."""
    function: Callable[[], int] | None = None
    """The program where it is a function (`start_function`): a fork with our streams; ``argv`` only names it then."""


@dataclass(slots=True)
class Status:
    """What a progress display may show."""

    phase: str = "start"
    processes: int = 0
    state: str = "running"
    hang: Suspected | None = None
    """What was found, as soon as it is."""


class Interrupts:
    """Counts SIGINT and SIGTERM while installed; the tree is then stopped instead of this process."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, *_: object) -> None:
        self.count += 1


def supervise(
    command: Command, sink: Sink, interrupts: Interrupts, show: Callable[[Status], None] = lambda _: None
) -> tuple[ProcessKey, ...]:
    """Run one attempt to its end and return all processes that it had; none of them is running afterwards.

    Raises:
        RecordingError: If the record can no longer be written. The tree has been ended then, as after any exception.
    """
    prompt = Prompt(realtime="realtime" not in command.without)
    attempt = _Attempt(command, sink, interrupts, show, prompt)
    try:
        with prompt:
            attempt.run()
    except BaseException:
        attempt.abandon()
        raise
    else:
        return tuple(attempt.ledger.entries)
    finally:
        attempt.faults.undo_all()


class _Attempt:
    def __init__(
        self, command: Command, sink: Sink, interrupts: Interrupts, show: Callable[[Status], None], prompt: Prompt
    ) -> None:
        self.command = command
        self.inherited = open_descriptors()
        """What was open before we opened anything: all that a forked program is to have."""
        self.switch_s = sys.getswitchinterval()
        self.cookie = new_cookie()
        self.sink: Sink = sink
        self.ledger = Ledger(self._record)
        self.connector, self.missing = _connector(command.sources, command.without)
        self.group = _group(self.cookie, command.without)
        self.observer = Observer(self.ledger, self.cookie, command.without, self.connector, self.group)
        self.observer.on_load = prompt.tell
        self.shm = ShmWatch(self.ledger, self._record)
        if self.shm.descriptor is not None:
            self.observer.watch_fd(self.shm.descriptor)
        self.faults = FaultPlan(command.faults, self.ledger, self._record)
        self.channel = PhaseChannel(command.folder / "phases.jsonl", command.nonce)
        self.capture: CaptureJob | None = None
        self.hang_captured = False
        self.gpus = GpuWatch(self.ledger, self._record, self.observer.helpers, command.without)
        self.hang = HangDetector(self.ledger, self._record, self.gpus.busy, quiet_s=command.quiet_s)
        self.interrupts = interrupts
        self.show = show
        self.status = Status()
        self.started = time.monotonic()

    def run(self) -> None:
        become_subreaper()
        self.sink(
            AttemptStarted(
                argv=self.command.argv, nonce=self.command.nonce, cookie=self.cookie, sources=self.command.sources
            )
        )
        if self.missing:
            self.sink(HarnessNote(note=self.missing))
        self.faults.begin()
        root = self.observer.root(self._start())
        course = Course(state=State.RUNNING, since=self.started)
        slow = 0.0
        while course.state is not State.DONE:
            self.observer.wait(TICK_S if self.capture is None or self.capture.done else POLL_S)
            self.shm.appeared()
            self._read_channel()
            self.faults.tick()
            self.hang.tick(time.monotonic())
            now = time.monotonic()
            if now >= slow:
                slow = now + SLOW_TICK_S
                self._slow_tick(course)
            for entry in self.ledger.running():
                self.ledger.refresh_title(entry, time.monotonic_ns())
            if self.capture is not None and not self.capture.done and self.capture.advance():
                self._merge(self.capture)
            course, action = step(course, self._situation(now, root_running=root.running))
            self._act(action, course)
            if self.hang.found is not None and not self.hang_captured:
                self._on_hang()
        self._finish(course)

    def abandon(self) -> None:
        """End the tree without recording: the record cannot be written any more."""
        self.sink = lambda _: None
        self.faults.undo_all()
        if self.capture is not None:
            self.capture.close()
        until = time.monotonic() + 10
        while self.ledger.running() and time.monotonic() < until:
            for entry in self.ledger.running():
                _send(entry.pidfd, signal.SIGKILL)
            self.observer.wait()
        self._close()

    def _close(self) -> None:
        self.hang.close()
        self.gpus.close()
        self.shm.reclaim()
        self.observer.close()
        if self.connector is not None:
            self.connector.close()
        if self.group is not None:
            self.group.remove()

    def _start(self) -> int:
        folder = self.command.folder
        env = {
            **os.environ,
            **self.command.env,
            COOKIE: self.cookie,
            NONCE: self.command.nonce,
            PHASES: str(folder / "phases.jsonl"),
            SCRATCH: str(self.command.scratch),
        }
        if self.command.function is not None:
            return start_function(self.command.function, env, self.inherited, self._as_before)
        if self.command.attached:
            attached = subprocess.Popen(self.command.argv, env=env, preexec_fn=self._join)  # noqa: PLW1509 - see there
            attached.returncode = 0  # the observer reaps it; Popen must not try
            return attached.pid
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            child = subprocess.Popen(
                self.command.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=env,
                cwd=self.command.cwd or folder,
                start_new_session=True,
                preexec_fn=self._join,  # noqa: PLW1509 - see there
            )
        child.returncode = 0
        return child.pid

    def _as_before(self) -> None:
        """Give a forked program the signal handlers and the turns of threads that this process had."""
        self.interrupts.__exit__()
        sys.setswitchinterval(self.switch_s)
        self._join()

    def _join(self) -> None:
        """Move into the attempt's cgroup; called in the program's process, before it is the program.

        The kernel takes some 10 ms for it. If the supervisor did it, it would not be looking at the children that the
        program has by then. Only system calls, so that other threads' locks do not matter in the fork.
        """
        if self.group is not None:
            with suppress(OSError):  # the other ways of knowing members remain
                self.group.add(os.getpid())

    def _situation(self, now: float, *, root_running: bool) -> Situation:
        return Situation(
            now=now,
            root_running=root_running,
            running=len(self.ledger.running()),
            deadline=self.started + self.command.deadline_s,
            interrupts=self.interrupts.count,
            capture_done=self.capture is not None and self.capture.done,
            spare_survivors=self.command.spare_survivors,
            kill_ordered="hang" if self.command.on_hang is OnHang.KILL and self.hang.found is not None else "",
        )

    def _on_hang(self) -> None:
        """Take stacks while the tree hangs; `stop.step` ends it if that was ordered."""
        self.hang_captured = True
        self.status.state = "hung"
        self.status.hang = self.hang.found
        self.show(self.status)
        if self.command.on_hang is OnHang.CAPTURE and self.capture is None:
            self.capture = self._capture()

    def _merge(self, capture: CaptureJob) -> None:
        """Write the merged stacks beside the single ones; a dump that no parser copes with costs only the merge."""
        names = {entry.key: entry.name for entry in self.ledger.entries.values()}
        try:
            merged = merge_captures(capture.captures, names, self.command.folder)
            if merged is not None:
                write_merged(merged, self.command.folder / "stacks")
            suspected = self.hang.found.keys if self.hang.found is not None else ()
            for event in standing(capture.captures, suspected, self.command.folder):
                self._record(event)
        except (OSError, ValueError) as error:
            self.sink(HarnessNote(note=f"the stacks were not merged: {error}"))

    def _capture(self) -> CaptureJob:
        keys, folder = [entry.key for entry in self.ledger.running()], self.command.folder / "stacks"
        return CaptureJob(keys, folder, self._record, self.observer.helpers, self.command.without)

    def _act(self, action: Action, course: Course) -> None:
        if action in {Action.TERMINATE, Action.KILL}:
            self.faults.undo_all()
        running = self.ledger.running()
        if action is Action.CAPTURE:
            if course.end == "hang":
                pass  # the suspicion has been recorded
            elif course.end == "deadline":
                reason = f"the deadline of {self.command.deadline_s:g} s passed"
                self.sink(Suspected(suspicion="deadline", reasons=(reason,), keys=tuple(e.key for e in running)))
            else:
                self.sink(
                    Suspected(
                        suspicion="survivors",
                        reasons=("these processes outlive the program",),
                        keys=tuple(e.key for e in running),
                    )
                )
            if self.capture is None or self.capture.done:  # one that has begun at a hang goes on
                self.capture = self._capture()
        elif action in {Action.TERMINATE, Action.KILL}:
            number = signal.SIGTERM if action is Action.TERMINATE else signal.SIGKILL
            self.sink(StopStep(step=number.name, keys=tuple(entry.key for entry in running)))
            for entry in running:
                entry.signalled = entry.signalled or f"stop:{number.name}"
                _send(entry.pidfd, number)

    def _slow_tick(self, course: Course) -> None:
        self.shm.look()
        self.gpus.tick(time.monotonic())
        self.observer.sweep()
        self.status.processes = len(self.ledger.running())
        self.status.state = course.state.name.lower()
        self.show(self.status)

    def _read_channel(self) -> None:
        for event in self.channel.read():
            self._record(event)
            self.faults.on_event(event)
            self.hang.on_event(event)
            if isinstance(event, PhaseMarked):
                self.status.phase = event.phase if event.state == "begin" else self.status.phase

    def _finish(self, course: Course) -> None:
        self._read_channel()
        self.faults.undo_all()
        if self.capture is not None and not self.capture.done:
            self.capture.close()
            self._merge(self.capture)
        for entry in self.ledger.running():
            self.sink(LeftBehind(what="process", name=entry.name, key=entry.key))
            for address in listening_on(entry.key.pid):
                self.sink(LeftBehind(what="socket", name=f"tcp {address}", key=entry.key))
        self._close()
        if self.observer.lost_events:
            lost = f"the process-event connector lost events {self.observer.lost_events} times; pidfds were still there"
            self.sink(HarnessNote(note=lost))
        self.channel.close()
        wall_s = round(time.monotonic() - self.started, 3)
        self.sink(AttemptEnded(end=course.end, wall_s=wall_s, detail=_last_line(self.command.folder / "stderr")))

    def _record(self, event: Event) -> None:
        self.sink(event)


def _connector(sources: tuple[str, ...], without: frozenset[str]) -> tuple[Connector | None, str]:
    """Return the connector where it was asked for and can be had, otherwise why it cannot."""
    if "connector" not in sources:
        return None, ""
    if "connector" in without:
        return None, "going on without the process-event connector: it was taken away by --without"
    try:
        return Connector(), ""
    except ConnectorUnavailableError as error:
        return None, f"going on without the process-event connector: {error}"


def _group(cookie: str, without: frozenset[str]) -> Group | None:
    """Return a cgroup for the attempt, or ``None`` where it cannot be had, or is not to be."""
    if "cgroup" in without or cgroup.probe() is not None:
        return None
    try:
        return Group(cookie)
    except OSError:
        return None


def _last_line(path: Path) -> str:
    """Return the last words of a program on its stderr; empty where it keeps our streams."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - 4096))
            lines = STYLE.sub("", stream.read().decode(errors="replace")).split("\n")
    except OSError:
        return ""
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def _send(pidfd: int, number: signal.Signals) -> None:
    """Send a signal to exactly the process of the ledger; it may just have gone, which is what was wanted."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return
