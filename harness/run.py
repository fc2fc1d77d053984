"""Composes the stages (plan, gate, supervise, record, judge) and is the one entry of all clients."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

from harness import __version__
from harness.child import OVERLAYS, PARAMS
from harness.environments import cache_folder, check_place, distribution, effective_version, overlay, path_with, provide
from harness.errors import EnvironmentBuildError, ExitCode, RecordingError
from harness.events import (
    AttemptEnded,
    AttemptSkipped,
    EffectiveSeen,
    Event,
    FaultFailed,
    GateChecked,
    HarnessNote,
    ProcessKey,
    RunEnded,
    RunStarted,
)
from harness.gpu_pool import GpuPool, Loan, record_residue
from harness.judge import Oracle, Row, judge_cell, oracle_of
from harness.outcome import Verdict, VerdictName
from harness.plan import Cell, plan
from harness.probes import proc
from harness.probes.collectors import FOLDER as COLLECTED
from harness.probes.collectors import Collection
from harness.probes.gpu_probes import look_at_gpus
from harness.probes.machine import capabilities, describe, read_environment
from harness.probes.xid import xids_since
from harness.record import Manifest, Recorder, RunRecord, Sink, link_latest, new_run_id, read_run, write_results
from harness.spec import Environment, Launch, Scenario, names_place
from harness.supervise.cookie import find_survivors
from harness.supervise.loop import Command, Interrupts, Status, supervise

PROJECT: Final = str(Path(__file__).resolve().parent.parent)  # where the programs are
RAY_LOGS_MIB: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for."""

    scenarios: tuple[Scenario, ...]
    selection: Mapping[str, tuple[str, ...]]
    suite: str | None = None
    repeat: int = 1
    until_reproduced: int | None = None
    """Repeat each cell until it is reproduced, at most so many times."""
    out: Path | None = None
    without: frozenset[str] = frozenset()
    argv: tuple[str, ...] = ()
    collect: bool = False
    """Whether the machine and its stacks are described after the first failing attempt, for a later bundle."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Package → wheel file or URL from which its overlays are installed instead of from an index."""
    cells: tuple[Cell, ...] = ()
    """Run exactly these, planned before by the client, of the scenarios above; selection and suite say nothing then."""


class Watcher:
    """What a client wants to be told while a run goes on; every method may be left as it is."""

    def planned(self, directory: Path, cells: Sequence[Cell]) -> None:
        """The run directory exists and these cells will be run."""

    def started(self, cell: Cell, attempt: int, expected_s: float) -> None:
        """An attempt begins."""

    def running(self, status: Status) -> None:
        """The attempt goes on; called a few times a second."""

    def preparing(self, what: str) -> None:
        """Something slow is done before an attempt, such as an installation."""

    def judged(self, row: Row) -> None:
        """A cell has its row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run came to."""

    directory: Path
    rows: tuple[Row, ...]
    interrupted: bool
    exit_code: ExitCode


def run(request: Request, watcher: Watcher | None = None) -> Result:
    """Run the requested cells and return their rows; everything is on disk then.

    Raises:
        UsageError: If the request cannot be planned or the output directory cannot be used.
        RecordingError: If the run directory cannot even be created.
    """
    watcher = watcher or Watcher()
    environment = read_environment(request.without)
    cells = request.cells or plan(request.scenarios, environment, suite=request.suite, selection=request.selection)
    _check_places(request, cells, environment)
    name = new_run_id()
    directory = request.out or Path("runs") / name
    manifest = Manifest(
        run=name,
        created=name.partition("-")[0],
        crashcart=__version__,
        argv=request.argv,
        cells=tuple(cells),
        repeat=request.until_reproduced or request.repeat,
        environment=describe(environment),
        capabilities=dict(capabilities(request.without)),
    )
    recorder = Recorder(directory.absolute(), manifest)
    if request.out is None:
        link_latest(directory)
    watcher.planned(directory, cells)
    with Interrupts() as interrupts:
        session = _Session(request, environment, recorder, watcher, interrupts)
        rows = session.run_cells(cells)
    return Result(
        directory=directory,
        rows=tuple(rows),
        interrupted=interrupts.count > 0,
        exit_code=ExitCode.INTERRUPTED if interrupts.count else exit_code(rows, cells),
    )


def _check_places(request: Request, cells: Sequence[Cell], environment: Environment) -> None:
    """Refuse a run for which a wheel or a checkout was named that is not there."""
    scenarios = {scenario.name: scenario for scenario in request.scenarios}
    for cell in cells:
        for package, version in scenarios[cell.scenario].launch(cell.params, environment).overlays.items():
            if names_place(version):
                check_place(package, version)


def exit_code(rows: Sequence[Row], cells: Sequence[Cell]) -> ExitCode:
    """Return the exit code by contract: 1 before 2 before 0."""
    needed = {cell.id for cell in cells if cell.needed}
    conclusive = {VerdictName.REPRODUCED, VerdictName.ABSENT, VerdictName.OTHER_FAILURE}
    if any(row.as_expected is False and row.verdict in conclusive for row in rows):
        return ExitCode.UNEXPECTED
    if any(row.verdict is VerdictName.NO_VERDICT for row in rows):
        return ExitCode.NO_VERDICT
    if any(row.verdict is VerdictName.UNTESTABLE and row.cell in needed for row in rows):
        return ExitCode.NO_VERDICT
    return ExitCode.OK


def judge_run(directory: Path, scenarios: Sequence[Scenario]) -> tuple[RunRecord, list[Row]]:
    """Judge a stored run again and replace its results.

    Raises:
        RecordError: If it cannot be read.
        RecordingError: If the results cannot be written.
    """
    record = read_run(directory)
    oracles = {scenario.name: oracle_of(scenario) for scenario in scenarios}
    rows = [judge_cell(record, cell, oracles.get(cell.scenario)) for cell in record.manifest.cells]
    try:
        write_results(directory, list(rows))
    except OSError as error:
        msg = f"cannot write the results in {directory}: {error.strerror}"
        raise RecordingError(msg) from error
    return record, rows


class _Session:
    """One run in progress."""

    def __init__(
        self,
        request: Request,
        environment: Environment,
        recorder: Recorder,
        watcher: Watcher,
        interrupts: Interrupts,
    ) -> None:
        self.request = request
        self.environment = environment
        self.recorder = recorder
        self.watcher = watcher
        self.interrupts = interrupts
        self.scenarios = {scenario.name: scenario for scenario in request.scenarios}
        self.pool = GpuPool(
            look=lambda: look_at_gpus(request.without),
            environ=os.environ,
            stop=lambda: interrupts.count > 0,
            tell=watcher.preparing,
        )
        self.position = 0
        """Where the events of the current cell begin."""
        self.collection: Collection | None = None
        self.collected = False
        self.full: str | None = None
        """Why nothing can be recorded any more, once that has happened."""
        self.changed: list[tuple[str, ProcessKey | None]] = []
        """Faults of ours that could not be undone: what comes after them would be judged on another machine."""

    def run_cells(self, cells: Sequence[Cell]) -> list[Row]:
        self._guard(lambda: self.recorder.write(RunStarted(run=self.recorder.directory.name)))
        rows = [self._run_cell(cell) for cell in cells]
        self._guard(self._await_collection)
        self._guard(lambda: self.recorder.write(RunEnded(interrupted=self.interrupts.count > 0)))
        self.recorder.close()
        return rows

    def _run_cell(self, cell: Cell) -> Row:
        limit = self.request.until_reproduced or self.request.repeat
        self.position = self.recorder.position()
        for number in range(1, limit + 1):
            if self.interrupts.count or self.full is not None:
                break
            self._guard(self._await_collection)  # a collector that opens the GPU would spoil the next attempt
            self._attempt(cell, number)
            self._guard(lambda number=number: self._collect(cell, number))  # type: ignore[misc]
            if self.request.until_reproduced and self._judge(cell).verdict is VerdictName.REPRODUCED:
                break
        row = self._judge(cell)
        self._guard(lambda: self.recorder.write_row(row))
        self.watcher.judged(row)
        return row

    def _collect(self, cell: Cell, number: int) -> None:
        """Describe machine and stacks once per run, as soon as an attempt has failed, in the background."""
        if not self.request.collect or self.collection is not None or "collectors" in self.request.without:
            return
        if self._judge(cell).verdict in {VerdictName.REPRODUCED, VerdictName.OTHER_FAILURE}:
            moment = f"after attempt {number} of {cell.id}"
            try:
                self.collection = Collection(self.recorder.directory / COLLECTED, moment)
            except OSError as error:
                self.recorder.write(HarnessNote(note=f"the environment could not be collected: {error.strerror}"))

    def _await_collection(self) -> None:
        if self.collection is None or self.collected:
            return
        self.collected = True
        self.watcher.preparing("the description of machine and stacks, for a bug report")
        try:
            self.collection.wait(lambda: self.interrupts.count > 0)
        except OSError as error:
            self.recorder.write(HarnessNote(note=f"the environment could not be collected: {error.strerror}"))

    def _judge(self, cell: Cell) -> Row:
        record = read_run(self.recorder.directory, position=self.position)
        if self.interrupts.count:
            record = replace(record, interrupted=True)
        row = judge_cell(record, cell, self._oracle(cell))
        if self.full is not None:
            verdict = Verdict(name=VerdictName.NO_VERDICT, reasons=(self.full, *row.reasons))
            row = msgspec.structs.replace(
                row, verdict=verdict.name, reasons=verdict.reasons, as_expected=None if cell.expected is None else False
            )
        return row

    def _oracle(self, cell: Cell) -> Oracle:
        return self.scenarios[cell.scenario].oracle

    def _guard(self, write: Callable[[], None]) -> None:
        """Do something that records; a full disk ends the recording, not crashcart."""
        if self.full is None:
            try:
                write()
            except RecordingError as error:
                self.full = str(error)

    def _attempt(self, cell: Cell, number: int) -> None:
        record = self.recorder.sink(cell.id, number)

        def sink(event: Event) -> None:
            if isinstance(event, FaultFailed) and event.undoing:
                self.changed.append((f"fault {event.fault} of {cell.id} {event.detail}", event.key))
            record(event)

        launch = self.scenarios[cell.scenario].launch(cell.params, self.environment)
        self.watcher.started(cell, number, launch.expected_s)
        self._guard(lambda: self._attempt_recorded(cell, number, launch, sink))

    def _attempt_recorded(self, cell: Cell, number: int, launch: Launch, sink: Sink) -> None:
        if cell.untestable is not None:
            sink(AttemptSkipped(verdict=VerdictName.UNTESTABLE, reason=cell.untestable))
            return
        with self._gpus(launch, cell) as loan:
            for note in loan.notes:
                sink(HarnessNote(note=note))
            if loan.verdict is not None:
                sink(AttemptSkipped(verdict=loan.verdict, reason=loan.reason))
                return
            self._attempt_alone(cell, number, launch, sink, loan)

    def _gpus(self, launch: Launch, cell: Cell) -> AbstractContextManager[Loan]:
        return self.pool.lend(launch.gpus if self.environment.gpus else 0, cell.id, shared=launch.shares_gpus)

    def _attempt_alone(self, cell: Cell, number: int, launch: Launch, sink: Sink, loan: Loan) -> None:
        survivors = find_survivors()
        notes = tuple(f"left by a crashcart that is gone: {one.key.pid} {one.title}" for one in survivors)
        notes += tuple(why for why, key in self.changed if key is None or proc.is_alive(key))
        sink(GateChecked(moment="before", clean=not notes, notes=notes))
        if notes:
            remedy = "; `crashcart doctor --reap` ends them" if survivors else ""
            reason = f"the machine is not clean: {'; '.join(notes)}{remedy}"
            sink(AttemptSkipped(verdict=VerdictName.NO_VERDICT, reason=reason))
            return
        try:
            paths = self._overlays(launch)
        except EnvironmentBuildError as error:
            sink(AttemptSkipped(verdict=VerdictName.UNTESTABLE, reason=str(error)))
            return
        installed = {
            name: self.environment.packages.get(distribution(name)) for name in launch.overlays if name not in paths
        }
        facts = {name: version for name, version in installed.items() if version is not None}
        facts |= {name: effective_version(name, path) for name, path in paths.items()}
        if facts:
            sink(EffectiveSeen(facts=facts))
        folder = self.recorder.attempt_folder(cell, number)
        scratch = Path(tempfile.mkdtemp(prefix="cc-", dir="/tmp"))
        try:
            self._supervise(cell, launch, paths, folder, scratch, sink, loan)
        finally:
            _keep_ray_logs(scratch, folder)
            shutil.rmtree(scratch, ignore_errors=True)

    def _overlays(self, launch: Launch) -> dict[str, Path]:
        paths = {}
        for package, version in launch.overlays.items():
            if version != "installed":
                self.watcher.preparing(f"{package} {version}")
                source = self.request.sources.get(package)
                paths[package] = overlay(package, version, source) if source else provide(package, version)
        return paths

    def _supervise(  # noqa: PLR0913, PLR0917 - the parts of one attempt
        self,
        cell: Cell,
        launch: Launch,
        paths: Mapping[str, Path],
        folder: Path,
        scratch: Path,
        sink: Sink,
        loan: Loan,
    ) -> None:
        env = {
            "PYTHONPATH": path_with(paths, os.pathsep.join([PROJECT, os.environ.get("PYTHONPATH", "")]).rstrip(":")),
            "CRASHCART_CACHE": str(cache_folder()),
            "RAY_DEDUP_LOGS": "0",  # every line of every worker is evidence
            "TMPDIR": str(scratch),
            **loan.env,
            **launch.env,
            PARAMS: msgspec.json.encode(cell.params).decode(),
            OVERLAYS: msgspec.json.encode({name: str(path) for name, path in paths.items()}).decode(),
        }
        command = Command(
            argv=(sys.executable, "-m", launch.module),
            env=env,
            folder=folder,
            scratch=scratch,
            nonce=secrets.token_hex(8),
            deadline_s=launch.deadline_s,
            faults=launch.faults,
            on_hang=launch.on_hang,
            without=self.request.without,
        )
        try:
            begun = time.monotonic()  # the kernel's log counts from boot, too
            members = supervise(command, sink, self.interrupts, self.watcher.running)
            if self.environment.gpus:
                for xid in xids_since(begun):
                    sink(HarnessNote(note=xid.describe()))
                stuck = {found.gpu: found.reason for found in record_residue(sink, members, self.request.without)}
                for device in loan.gpus:
                    if device.uuid in stuck:
                        sink(HarnessNote(note=self.pool.quarantine(device, stuck[device.uuid])))
        except RecordingError:
            raise
        except OSError as error:
            sink(AttemptEnded(end="harness_error", wall_s=0.0, detail=f"{type(error).__name__}: {error}"))


def _keep_ray_logs(scratch: Path, folder: Path) -> None:
    """Copy the logs of a Ray session into the evidence, as far as they are not excessive."""
    for logs in scratch.glob("**/session_2*/logs"):
        size = sum(path.stat().st_size for path in logs.rglob("*") if path.is_file())
        if size < RAY_LOGS_MIB << 20:
            shutil.copytree(logs, folder / "ray_logs", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))
