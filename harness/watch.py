"""Supervises any command: an ordinary run directory with one row, scenario ``watch``."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness import __version__
from harness.attempt import Attempt, Judgement
from harness.errors import UsageError
from harness.events import RunEnded, RunStarted
from harness.judge import WATCH, Row, findings, judge_cell
from harness.outcome import Kind, Verdict, VerdictName
from harness.plan import Cell
from harness.probes.machine import capabilities, describe, read_environment
from harness.record import Manifest, Recorder, link_latest, new_run_id, read_run
from harness.spec import OnHang
from harness.supervise.hang import QUIET_S
from harness.supervise.loop import Command, Interrupts, Status, supervise

TIMED_OUT: Final = 124
NOT_FOUND: Final = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRequest:
    """What is to be watched, and how."""

    argv: tuple[str, ...]
    out: Path | None = None
    timeout_s: float | None = None
    on_hang: OnHang = OnHang.CAPTURE
    quiet_s: float = QUIET_S
    """How long nothing may move before it is a hang, in seconds."""
    sources: tuple[str, ...] = ()
    """Further sources of exit statuses: ``connector``."""
    without: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What became of it."""

    directory: Path
    attempt: Attempt
    row: Row
    code: int
    """The command's exit code, 128+n for a signal, 124 when its timeout ended it, 130 for Ctrl-C."""


def watch(request: WatchRequest, show: Callable[[Status], None] = lambda _: None) -> Watched:
    """Run a command under the supervisor and leave a run directory.

    Raises:
        UsageError: If the command does not exist (exit code 127) or the output directory cannot be used.
        RecordingError: If the record cannot be written.
    """
    if shutil.which(request.argv[0]) is None:
        raise CommandNotFoundError(request.argv[0])
    environment = read_environment(request.without)
    name = new_run_id()
    directory = request.out or Path("runs") / name
    cell = Cell(scenario=WATCH, id=WATCH, params={}, kind=Kind.PROVOKED)
    manifest = Manifest(
        run=name,
        created=name.partition("-")[0],
        crashcart=__version__,
        argv=request.argv,
        cells=(cell,),
        environment=describe(environment),
        capabilities=dict(capabilities(request.without)),
    )
    recorder = Recorder(directory.absolute(), manifest)
    if request.out is None:
        link_latest(directory)
    scratch = Path(tempfile.mkdtemp(prefix="cc-", dir="/tmp"))
    command = Command(
        argv=request.argv,
        env={},
        folder=recorder.attempt_folder(cell, 1),
        scratch=scratch,
        nonce=secrets.token_hex(8),
        deadline_s=request.timeout_s if request.timeout_s is not None else float("inf"),
        without=request.without,
        attached=True,
        on_hang=request.on_hang,
        quiet_s=request.quiet_s,
        sources=request.sources,
        spare_survivors=True,
    )
    try:
        with Interrupts() as interrupts:
            recorder.write(RunStarted(run=name))
            supervise(command, recorder.sink(cell.id, 1), interrupts, show)
            recorder.write(RunEnded(interrupted=interrupts.count > 0))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    row = judge_cell(read_run(directory), cell, oracle)
    recorder.write_row(row)
    recorder.close()
    attempt = read_run(directory).attempts[cell.id][0]
    return Watched(directory=directory, attempt=attempt, row=row, code=_code(attempt))


class CommandNotFoundError(UsageError):
    """The command to be watched does not exist."""

    def __init__(self, command: str) -> None:
        super().__init__(f"command not found: {command}", hint=f"PATH is {os.environ.get('PATH', '')[:80]}…")


def oracle(attempt: Attempt) -> Judgement:
    """Say what a watched command came to: its exit 0, seen by waitpid, stands in for the nonce it cannot know."""
    found = findings(attempt)
    root = attempt.processes[0].status if attempt.processes else None
    named = sorted({str(finding["finding"]) for finding in found})
    if root is not None and root.exit_code == 0 and not found:
        return Judgement(verdict=Verdict(name=VerdictName.ABSENT, reasons=("exit 0, no findings",)))
    how = root.describe() if root is not None else "no exit seen"
    signature = "; ".join([how, *named])
    reasons = tuple(f"{f['finding']}: {f.get('name', '')}" for f in found) or (how,)
    return Judgement(verdict=Verdict(name=VerdictName.OTHER_FAILURE, signature=signature, reasons=reasons))


def _code(attempt: Attempt) -> int:
    if attempt.end == "interrupted":
        return 130
    if attempt.end in {"deadline", "hang"}:
        return TIMED_OUT
    status = attempt.processes[0].status if attempt.processes else None
    if status is None or not status.known:
        return 1
    if status.signal is not None:
        return 128 + signal.Signals[status.signal].value
    return status.exit_code or 0
