"""The closed set of recorded facts, one frozen class each, and their codec.

Every event carries the monotonic clock (for order and durations) and the wall clock (for people). An event states
what was seen, not what it means; conclusions are drawn by oracles from the record.
"""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from harness.outcome import ExitStatus, StatusSource

SCHEMA: Final = 1


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


class ProcessKey(msgspec.Struct, frozen=True, order=True):
    """Identity of a process: the pid alone can be used again."""

    pid: int
    start: int
    """Start time in clock ticks since boot (field 22 of /proc/PID/stat); 0 if it was gone before it could be read."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=_snake):
    """Base: when, and in which attempt of which cell (both empty for facts of the whole run)."""

    t_ns: int = msgspec.field(default_factory=time.monotonic_ns)
    wall_ns: int = msgspec.field(default_factory=time.time_ns)
    cell: str = ""
    attempt: int = 0


class RunStarted(Event, frozen=True, kw_only=True):
    """The run's first event; the plan and the environment are in ``run.json``."""

    run: str
    schema: int = SCHEMA


class RunEnded(Event, frozen=True, kw_only=True):
    """The run's last event; a record without it was cut short."""

    interrupted: bool = False


class AttemptStarted(Event, frozen=True, kw_only=True):
    """The supervisor is about to start the program."""

    argv: tuple[str, ...]
    nonce: str
    cookie: str
    sources: tuple[str, ...] = ()


class AttemptEnded(Event, frozen=True, kw_only=True):
    """Nothing of the attempt is left to do.

    ``end`` is ``exited``, ``deadline``, ``interrupted``, ``hang`` (ended by order of ``--on-hang kill``), ``idle``
    (nothing left to observe) or ``harness_error`` (with ``detail``).
    """

    end: str
    wall_s: float
    detail: str = ""


class AttemptSkipped(Event, frozen=True, kw_only=True):
    """The attempt was not started: ``untestable`` here, or ``no_verdict`` because something stood in its way."""

    verdict: str
    reason: str


class ProcessBorn(Event, frozen=True, kw_only=True):
    """A process of the tree was first seen. ``ppid`` is its parent at that moment."""

    key: ProcessKey
    ppid: int
    parent: ProcessKey | None
    name: str
    comm: str
    claimed_by: str
    """Why it belongs to the attempt: ``root``, ``parent``, ``subreaper``, ``cookie`` or ``cgroup``."""


class ProcessRenamed(Event, frozen=True, kw_only=True):
    """A process shows another title: an exec, or a runtime that names itself."""

    key: ProcessKey
    name: str


class ProcessReparented(Event, frozen=True, kw_only=True):
    """The parent of a process is no longer the one of its birth."""

    key: ProcessKey
    ppid: int


class ProcessDied(Event, frozen=True, kw_only=True):
    """A process ended. ``t_ns`` is when its death was seen; ``ended_by`` names our own step that ended it, if any."""

    key: ProcessKey
    status: ExitStatus = ExitStatus(source=StatusSource.UNKNOWN)
    ended_by: str = ""


class PhaseMarked(Event, frozen=True, kw_only=True):
    """The program declared the begin, end or failure of a phase; ``at_ns`` is the program's own clock reading."""

    phase: str
    state: str
    pid: int
    at_ns: int
    data: dict[str, Any] = {}


class Observed(Event, frozen=True, kw_only=True):
    """The program recorded an observation. It proves what the program said, no more."""

    mark: str
    pid: int
    at_ns: int
    data: dict[str, Any] = {}


class NonceSaid(Event, frozen=True, kw_only=True):
    """The program came to its intended end and said its word; ``valid`` if it was the right one."""

    pid: int
    valid: bool


class Suspected(Event, frozen=True, kw_only=True):
    """The supervisor suspects a hang, or ran into the deadline. No tracing stop happens before this event."""

    suspicion: str
    reasons: tuple[str, ...] = ()
    keys: tuple[ProcessKey, ...] = ()
    proved: bool = False
    waiter: ProcessKey | None = None
    """Who declared the phase in which nothing moves; it may not be a suspect itself."""


class StacksCaptured(Event, frozen=True, kw_only=True):
    """One tool's stacks of one process lie in ``path`` (relative to the attempt's folder)."""

    key: ProcessKey
    tool: str
    path: str
    seconds: float
    """How long the tool ran, its reading of symbols included."""
    held_s: float = 0.0
    """How long the main thread of the process had a tracer, all tools that were tried on it taken together: measured,
    by looks at its TracerPid a few milliseconds apart. What the capture cost the process is at most this."""
    held_error_s: float = 0.0
    """By how much that may be wrong: twice the longest time between two looks."""
    partial: bool = False
    detail: str = ""


class StoodAt(Event, frozen=True, kw_only=True):
    """Where one thread of a process stood when its stack was taken: its innermost calls, innermost first.

    Of suspected processes first, and of few others: the whole is in the files of the capture.
    """

    key: ProcessKey
    thread: str
    """Its name, or its number where it has none."""
    frames: tuple[str, ...]


class FaultAttempted(Event, frozen=True, kw_only=True):
    """A declared fault is about to be performed; ``by`` says on whom or what."""

    fault: str
    target: str
    key: ProcessKey | None = None


class FaultConfirmed(Event, frozen=True, kw_only=True):
    """The kernel shows the effect of the fault."""

    fault: str
    detail: str


class FaultFailed(Event, frozen=True, kw_only=True):
    """A declared fault could not be performed, confirmed or undone."""

    fault: str
    detail: str
    undoing: bool = False
    """It was there and could not be taken back: the machine is not as before."""
    key: ProcessKey | None = None
    """With the end of which process it goes; ``None`` where it stays on the machine."""


class FaultUndone(Event, frozen=True, kw_only=True):
    """A fault that lasts was taken back."""

    fault: str
    detail: str = ""


class StopStep(Event, frozen=True, kw_only=True):
    """One step of the stop ladder and whom it was aimed at."""

    step: str
    keys: tuple[ProcessKey, ...]


class ShmSeen(Event, frozen=True, kw_only=True):
    """A process of the tree was seen to map or hold an entry of /dev/shm."""

    path: str
    key: ProcessKey
    size: int


class LeftBehind(Event, frozen=True, kw_only=True):
    """Found after the attempt: ``what`` is ``process``, ``shm``, ``socket``, ``zombie`` or ``gpu_memory``."""

    what: str
    name: str
    key: ProcessKey | None = None
    bytes: int = 0
    reclaimed: bool = False


class GateChecked(Event, frozen=True, kw_only=True):
    """The machine was looked at before or after an attempt."""

    moment: str
    clean: bool
    notes: tuple[str, ...] = ()


class GpuUse(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU at one moment; ``None`` where the driver does not tell."""

    index: int
    used_mib: int | None = None
    utilisation_pct: int | None = None
    """Share of the last moment in which a kernel ran, waiting kernels included."""


class GpuHeld(msgspec.Struct, frozen=True, kw_only=True):
    """A process that has a GPU in use; ``gpu`` is its index, -1 where the source names none."""

    pid: int
    start: int
    gpu: int
    mib: int | None = None


class GpuSampled(Event, frozen=True, kw_only=True):
    """The GPUs of the machine were looked at while the tree held one; holders may be foreign to the tree."""

    gpus: tuple[GpuUse, ...]
    holders: tuple[GpuHeld, ...]


class EffectiveSeen(Event, frozen=True, kw_only=True):
    """A version, path or setting that was really in use, as the harness itself (not the program) determined it."""

    facts: dict[str, str]


class HarnessNote(Event, frozen=True, kw_only=True):
    """Something about crashcart itself that a reader of the record should know (a degraded source, an error)."""

    note: str


KINDS: Final[tuple[type[Event], ...]] = (
    RunStarted, RunEnded, AttemptStarted, AttemptEnded, AttemptSkipped, ProcessBorn, ProcessRenamed,
    ProcessReparented, ProcessDied, PhaseMarked, Observed, NonceSaid, Suspected, StacksCaptured, StoodAt,
    FaultAttempted, FaultConfirmed, FaultFailed, FaultUndone, StopStep, ShmSeen, LeftBehind, GateChecked,
    GpuSampled, EffectiveSeen, HarnessNote,
)  # fmt: skip


_encoder: Final = msgspec.json.Encoder()
_decoders: Final = {_snake(kind.__name__): msgspec.json.Decoder(kind) for kind in KINDS}


class _Head(msgspec.Struct):
    event: str = ""


_head: Final = msgspec.json.Decoder(_Head)


def encode(event: Event) -> bytes:
    """Return the event as one line of JSON with its end of line."""
    return _encoder.encode(event) + b"\n"


def decode(line: bytes) -> Event | None:
    """Return the event of a line, or ``None`` for a kind that a newer crashcart wrote.

    Raises:
        msgspec.DecodeError: If the line is not an event at all, as a torn last line.
    """
    decoder = _decoders.get(_head.decode(line).event)
    return decoder.decode(line) if decoder is not None else None
