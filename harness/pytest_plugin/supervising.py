"""The process in between: forked from pytest, it supervises one test and ends with it.

pytest itself cannot be the supervisor: it would become the parent of everybody's orphans, its signal handlers would be
replaced during each test, and nobody would be left to end the test's processes if pytest is killed. The process in
between has the test's tree as its only children, and hears from the kernel when pytest goes.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from harness.attempt import Attempt
from harness.errors import CrashcartError
from harness.events import RunEnded, RunStarted
from harness.gpu_pool import record_residue
from harness.plan import Cell
from harness.probes.linux import end_with_parent
from harness.pytest_plugin.child import run_test
from harness.pytest_plugin.marks import Guard
from harness.record import Manifest, Recorder, read_run
from harness.spec import OnHang
from harness.supervise.hang import QUIET_S
from harness.supervise.loop import Command, Interrupts, supervise

BROKEN: Final = "supervisor.txt"
"""What the supervisor itself stumbled over, in the folder of the test."""
FAILED: Final = 70
POLL_MS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One test to be supervised."""

    item: pytest.Item
    guard: Guard
    cell: Cell
    manifest: Manifest
    folder: Path
    deadline_s: float
    env: Mapping[str, str]
    watch_gpus: bool
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised:
    """What the record says, and whether the supervisor came to its own end."""

    attempt: Attempt | None
    broken: str = ""
    interrupted: bool = False


def new_nonce() -> str:
    """Return a word that a test cannot guess."""
    return secrets.token_hex(8)


def supervise_test(task: Task) -> Supervised:
    """Run one test and wait for the end of all its processes.

    Ctrl-C ends the test's processes in order, a second one at once; then it is raised.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    # Held back over the fork: a Ctrl-C must not be raised in the child before it has handlers of its own.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # as in `start_function`
        pid = os.fork()
    if pid == 0:
        _supervisor(task, parent, held)
    status = _wait(pid, held)
    broken = ""
    if status != 0:
        path = task.folder / BROKEN
        broken = path.read_text() if path.exists() else f"the supervisor ended with {os.waitstatus_to_exitcode(status)}"
    try:
        record = read_run(task.folder)
        attempt = record.attempts[task.cell.id][0]
    except (CrashcartError, IndexError) as error:
        return Supervised(attempt=None, broken=broken or str(error))
    return Supervised(attempt=attempt, broken=broken)


def _wait(pid: int, held: set[int] | set[signal.Signals]) -> int:
    interrupted: KeyboardInterrupt | None = None
    ended = select.poll()
    pidfd = os.pidfd_open(pid)
    ended.register(pidfd, select.POLLIN)
    try:
        while True:
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, held)
                # A signal that comes just before a system call is noticed after it: none may block for ever.
                while not ended.poll(POLL_MS):
                    pass
                _, status = os.waitpid(pid, 0)
            except KeyboardInterrupt as error:
                interrupted = error
                os.kill(pid, signal.SIGTERM)  # our own child, which has not been reaped: the pid is its
            else:
                if interrupted is not None:
                    raise interrupted
                return status
    finally:
        os.close(pidfd)


def _supervisor(task: Task, parent: int, held: set[int] | set[signal.Signals]) -> None:
    """Never returns: what stands on the stack above is the business of pytest."""
    code = FAILED
    try:
        os.setsid()
        with Interrupts() as interrupts:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            end_with_parent(signal.SIGTERM, parent)
            _supervise(task, interrupts)
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, pytest has to say it
        _say(task.folder / BROKEN, traceback.format_exc())
    finally:
        os._exit(code)


def _say(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError:
        sys.stderr.write(text)


def _supervise(task: Task, interrupts: Interrupts) -> None:
    recorder = Recorder(task.folder, task.manifest)
    attempt = recorder.attempt_folder(task.cell, 1)
    sink = recorder.sink(task.cell.id, 1)
    command = Command(
        argv=("pytest", task.item.nodeid),
        env=task.env,
        folder=attempt,
        scratch=attempt,
        nonce=task.nonce,
        deadline_s=task.deadline_s,
        on_hang=OnHang.KILL,
        function=partial(run_test, task.item, task.guard, attempt, task.nonce),
        quiet_s=task.guard.hang_after or QUIET_S,
    )
    recorder.write(RunStarted(run=task.folder.name))
    members = supervise(command, sink, interrupts)
    if task.watch_gpus and not interrupts.count:
        record_residue(sink, members)
    recorder.write(RunEnded(interrupted=interrupts.count > 0))
    recorder.close()
