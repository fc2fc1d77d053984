"""The run directory: an append-only log that is readable at any moment, and its reader.

Every event is one ``write`` on an ``O_APPEND`` descriptor, so that a killed crashcart loses at most a torn last line.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from harness import events
from harness.attempt import Attempt, FaultRecord, Leftover, Mark, Process, Standing, Suspicion
from harness.errors import RecordError, RecordingError, UsageError
from harness.events import Event, ProcessKey
from harness.outcome import Verdict, VerdictName
from harness.plan import Cell

EVENTS: Final = "events.jsonl"
MANIFEST: Final = "run.json"
RESULTS: Final = "results.jsonl"

Sink = Callable[[Event], None]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """``run.json``: the plan and the machine, written before the first attempt."""

    schema: int = events.SCHEMA
    run: str
    created: str
    crashcart: str
    argv: tuple[str, ...]
    cells: tuple[Cell, ...]
    repeat: int = 1
    environment: dict[str, Any] = {}
    capabilities: dict[str, Any] = {}


def new_run_id() -> str:
    """Return ``<UTC time>-<id>``: sorts by time, unique on one machine."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"


class Recorder:
    """Writes one run directory.

    Raises:
        UsageError: If the directory exists and is not empty: nothing is ever overwritten.
        RecordingError: From any method, if the file system refuses the write.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        try:
            if directory.exists() and any(directory.iterdir()):
                msg = f"output directory {directory} is not empty"
                raise UsageError(msg, hint="name a new one with --out")
            directory.mkdir(parents=True, exist_ok=True)
            _write_atomically(directory / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._log = os.open(directory / EVENTS, flags, 0o644)
            self._results = os.open(directory / RESULTS, flags, 0o644)
        except NotADirectoryError as error:
            msg = f"output directory {directory} is a file"
            raise UsageError(msg, hint="name a directory with --out") from error
        except OSError as error:
            msg = f"cannot write the run directory {directory}: {error.strerror}"
            raise RecordingError(msg, hint="free space or name another place with --out") from error
        self._torn = False

    def write(self, event: Event) -> None:
        """Append one event."""
        self._append(self._log, events.encode(event))

    def write_row(self, row: msgspec.Struct) -> None:
        """Append one result row."""
        self._append(self._results, msgspec.json.encode(row) + b"\n")

    def sink(self, cell: str, attempt: int) -> Sink:
        """Return a writer that stamps events with their attempt."""
        return lambda event: self.write(msgspec.structs.replace(event, cell=cell, attempt=attempt))

    def attempt_folder(self, cell: Cell, attempt: int) -> Path:
        """Create and return the folder of an attempt."""
        folder = self.directory / "cells" / cell.folder / str(attempt)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"cannot create {folder}: {error.strerror}"
            raise RecordingError(msg) from error
        return folder

    def position(self) -> int:
        """Return the size of the log, in bytes, from which later events can be read alone."""
        return os.fstat(self._log).st_size

    def close(self) -> None:
        """Close the files."""
        os.close(self._log)
        os.close(self._results)

    def _append(self, descriptor: int, line: bytes) -> None:
        data = b"\n" + line if self._torn else line
        try:
            self._torn = os.write(descriptor, data) != len(data)
        except OSError as error:
            msg = f"cannot record: {error.strerror}"
            raise RecordingError(msg, hint="what was recorded so far stays readable") from error
        if self._torn:
            msg = "cannot record: no space left for a whole line"
            raise RecordingError(msg, hint="what was recorded so far stays readable")


def link_latest(directory: Path) -> None:
    """Let ``latest`` beside the run directory name it."""
    temporary = directory.parent / f".latest-{directory.name}"
    temporary.symlink_to(directory.name)
    temporary.replace(directory.parent / "latest")


def write_results(directory: Path, rows: list[msgspec.Struct]) -> None:
    """Replace ``results.jsonl`` in one step, as after a second judgement."""
    _write_atomically(directory / RESULTS, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def _write_atomically(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as read back from its directory."""

    directory: Path
    manifest: Manifest
    attempts: Mapping[str, tuple[Attempt, ...]]
    """Attempts by cell id, in their order; a cell that never started has none."""
    ended: bool
    interrupted: bool
    unreadable_lines: int


def read_manifest(directory: Path) -> Manifest:
    """Read ``run.json``.

    Raises:
        RecordError: If it is missing, cannot be read, or is of a newer schema.
    """
    path = directory / MANIFEST
    try:
        data = path.read_bytes()
        schema = msgspec.json.decode(data, type=dict[str, Any]).get("schema")
        if schema != events.SCHEMA:
            msg = f"{path} has schema {schema}, this crashcart reads {events.SCHEMA}"
            raise RecordError(msg, hint="read it with the crashcart that wrote it")
        return msgspec.json.decode(data, type=Manifest)
    except OSError as error:
        msg = f"{directory} is no run directory: cannot read {MANIFEST}: {error.strerror}"
        raise RecordError(msg, hint="run directories lie under runs/, the newest is runs/latest") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is damaged: {error}"
        raise RecordError(msg, hint="the events beside it are kept; a run without run.json cannot be judged") from error


def read_run(directory: Path, *, position: int = 0) -> RunRecord:
    """Read a run directory as far as it can be read; with ``position``, the events from there on only.

    Raises:
        RecordError: If there is no readable ``run.json``.
    """
    manifest = read_manifest(directory)
    by_attempt: dict[tuple[str, int], list[Event]] = defaultdict(list)
    ended = interrupted = False
    unreadable = 0
    for event in iterate_events(directory, position):
        if event is None:
            unreadable += 1
        elif isinstance(event, events.RunEnded):
            ended, interrupted = True, event.interrupted
        elif event.cell:
            by_attempt[event.cell, event.attempt].append(event)
    params = {cell.id: cell.params for cell in manifest.cells}
    attempts: dict[str, list[Attempt]] = {cell.id: [] for cell in manifest.cells}
    for (cell, number), facts in sorted(by_attempt.items(), key=lambda item: item[0][1]):
        attempts.setdefault(cell, []).append(build_attempt(cell, number, params.get(cell, {}), facts))
    return RunRecord(
        directory=directory,
        manifest=manifest,
        attempts={cell: tuple(found) for cell, found in attempts.items()},
        ended=ended,
        interrupted=interrupted,
        unreadable_lines=unreadable,
    )


def iterate_events(directory: Path, position: int = 0) -> Iterator[Event | None]:
    """Yield the events in their order; ``None`` stands for a line that cannot be read."""
    try:
        log = (directory / EVENTS).open("rb")
    except OSError:
        return
    with log:
        log.seek(position)
        for line in log:
            try:
                event = events.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                yield None
                continue
            if event is not None:
                yield event


@dataclass(slots=True)
class _Life:
    """A process while its events are being read."""

    born: events.ProcessBorn
    names: list[str] = field(default_factory=list)
    died: events.ProcessDied | None = None


def build_attempt(cell: str, number: int, params: Mapping[str, str], facts: list[Event]) -> Attempt:
    """Fold the events of one attempt into the value that oracles see."""
    started = next((fact.t_ns for fact in facts if isinstance(fact, events.AttemptStarted)), facts[0].t_ns)
    ended = next((fact for fact in facts if isinstance(fact, events.AttemptEnded)), None)
    skipped = next((fact for fact in facts if isinstance(fact, events.AttemptSkipped)), None)
    last = facts[-1].t_ns
    return Attempt(
        cell=cell,
        attempt=number,
        params=params,
        started_ns=started,
        end=ended.end if ended else None,
        wall_s=ended.wall_s if ended else (last - started) / 1e9,
        detail=ended.detail if ended else "",
        stopped_ns=next((fact.t_ns for fact in facts if isinstance(fact, events.StopStep)), None),
        skipped=Verdict(name=VerdictName(skipped.verdict), reasons=(skipped.reason,)) if skipped else None,
        nonce=any(isinstance(fact, events.NonceSaid) and fact.valid for fact in facts),
        processes=_processes(facts, last),
        marks=tuple(
            Mark(name=fact.mark, pid=fact.pid, t_ns=fact.at_ns, data=fact.data)
            for fact in facts
            if isinstance(fact, events.Observed)
        ),
        phases=tuple(
            Mark(name=fact.phase, pid=fact.pid, t_ns=fact.at_ns, data=fact.data, state=fact.state)
            for fact in facts
            if isinstance(fact, events.PhaseMarked)
        ),
        faults=_faults(facts),
        leftovers=tuple(
            Leftover(what=fact.what, name=fact.name, key=fact.key, bytes=fact.bytes, reclaimed=fact.reclaimed)
            for fact in facts
            if isinstance(fact, events.LeftBehind)
        ),
        suspicions=tuple(
            Suspicion(
                suspicion=fact.suspicion,
                reasons=fact.reasons,
                t_ns=fact.t_ns,
                keys=fact.keys,
                proved=fact.proved,
                waiter=fact.waiter,
            )
            for fact in facts
            if isinstance(fact, events.Suspected)
        ),
        stacks=tuple(fact.path for fact in facts if isinstance(fact, events.StacksCaptured) and fact.path),
        gpu_samples=tuple(fact for fact in facts if isinstance(fact, events.GpuSampled)),
        standing=tuple(
            Standing(key=fact.key, thread=fact.thread, frames=fact.frames, t_ns=fact.t_ns)
            for fact in facts
            if isinstance(fact, events.StoodAt)
        ),
        effective={
            key: value for fact in facts if isinstance(fact, events.EffectiveSeen) for key, value in fact.facts.items()
        },
        notes=tuple(fact.note for fact in facts if isinstance(fact, events.HarnessNote)),
    )


def _processes(facts: list[Event], last_ns: int) -> tuple[Process, ...]:
    lives: dict[ProcessKey, _Life] = {}
    for fact in facts:
        if isinstance(fact, events.ProcessBorn):
            lives[fact.key] = _Life(born=fact, names=[fact.name])
        elif isinstance(fact, events.ProcessRenamed) and fact.key in lives:
            lives[fact.key].names.append(fact.name)
        elif isinstance(fact, events.ProcessDied) and fact.key in lives:
            lives[fact.key].died = fact
    return tuple(_process(life, lives, last_ns) for life in lives.values())


def _process(life: _Life, lives: Mapping[ProcessKey, _Life], last_ns: int) -> Process:
    born, died = life.born, life.died
    parent = lives.get(born.parent) if born.parent is not None else None
    orphaned = 0.0
    ended_ns = died.t_ns if died else last_ns
    if parent is not None and parent.died is not None:
        orphaned = max(0.0, (ended_ns - parent.died.t_ns) / 1e9)
    elif born.claimed_by == "subreaper":  # its parent had gone before it was first seen
        orphaned = (ended_ns - born.t_ns) / 1e9
    return Process(
        key=born.key,
        ppid=born.ppid,
        parent=born.parent,
        names=tuple(life.names),
        claimed_by=born.claimed_by,
        born_ns=born.t_ns,
        died_ns=died.t_ns if died else None,
        status=died.status if died else None,
        ended_by=died.ended_by if died else "",
        orphaned_s=orphaned,
    )


def _faults(facts: list[Event]) -> tuple[FaultRecord, ...]:
    faults: dict[str, FaultRecord] = {}
    for fact in facts:
        if isinstance(fact, events.FaultAttempted):
            faults[fact.fault] = FaultRecord(fault=fact.fault, attempted_ns=fact.t_ns, key=fact.key)
        elif isinstance(fact, events.FaultConfirmed | events.FaultFailed | events.FaultUndone):
            before = faults.get(fact.fault, FaultRecord(fault=fact.fault, attempted_ns=fact.t_ns))
            undoing = isinstance(fact, events.FaultUndone) or (isinstance(fact, events.FaultFailed) and fact.undoing)
            faults[fact.fault] = replace(
                before,
                confirmed=before.confirmed or isinstance(fact, events.FaultConfirmed),
                undone=before.undone or isinstance(fact, events.FaultUndone),
                not_undone=fact.detail if undoing and isinstance(fact, events.FaultFailed) else before.not_undone,
                detail=before.detail if undoing else fact.detail,
            )
    return tuple(faults.values())
