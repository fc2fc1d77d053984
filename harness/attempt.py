"""An attempt as oracles see it: frozen values read back from the record, and nothing that is not recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.events import GpuSampled, ProcessKey
from harness.outcome import ExitStatus, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of the tree over its whole life; times are monotonic nanoseconds."""

    key: ProcessKey
    ppid: int
    parent: ProcessKey | None
    names: tuple[str, ...]
    claimed_by: str
    born_ns: int
    died_ns: int | None = None
    status: ExitStatus | None = None
    ended_by: str = ""
    orphaned_s: float = 0.0
    """For how long it outlived its birth parent, in seconds; 0 if it did not."""

    @property
    def name(self) -> str:
        """The last full title."""
        return self.names[-1]

    def was(self, pattern: str) -> bool:
        """Whether any of its titles matches the regular expression from its beginning."""
        return any(re.match(pattern, name) for name in self.names)

    def alive_at(self, t_ns: int) -> bool:
        """Whether it had been born and had not been seen dead at that moment."""
        return self.born_ns <= t_ns and (self.died_ns is None or self.died_ns > t_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An observation or a phase change that the program declared."""

    name: str
    pid: int
    t_ns: int
    data: Mapping[str, Any]
    state: str = "mark"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRecord:
    """What became of a declared fault."""

    fault: str
    attempted_ns: int
    key: ProcessKey | None = None
    confirmed: bool = False
    undone: bool = False
    """Whether a fault that lasts was taken back."""
    not_undone: str = ""
    """Why it could not be taken back, empty otherwise: the machine is not as before then."""
    detail: str = ""
    """What was seen of its effect, or why it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Something that the attempt left on the machine."""

    what: str
    name: str
    key: ProcessKey | None
    bytes: int
    reclaimed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """A recorded suspicion of a hang, or the deadline."""

    suspicion: str
    reasons: tuple[str, ...]
    t_ns: int
    keys: tuple[ProcessKey, ...]
    proved: bool
    waiter: ProcessKey | None = None
    """Who declared the phase in which nothing moves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a thread stood when its stack was taken; calls innermost first, as ``function (file:line)``."""

    key: ProcessKey
    thread: str
    frames: tuple[str, ...]
    t_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """All that was recorded of one attempt."""

    cell: str
    attempt: int
    params: Mapping[str, str]
    started_ns: int
    end: str | None
    """How it ended (see `harness.events.AttemptEnded`); ``None`` if the record stops before."""
    wall_s: float = 0.0
    detail: str = ""
    stopped_ns: int | None = None
    """When the first step was taken to end what was left of it; who died before that was not ended by us, unless by a
    fault."""
    skipped: Verdict | None = None
    nonce: bool = False
    processes: tuple[Process, ...] = ()
    marks: tuple[Mark, ...] = ()
    phases: tuple[Mark, ...] = ()
    faults: tuple[FaultRecord, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    suspicions: tuple[Suspicion, ...] = ()
    stacks: tuple[str, ...] = ()
    standing: tuple[Standing, ...] = ()
    gpu_samples: tuple[GpuSampled, ...] = ()
    effective: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def mark(self, name: str) -> Mark | None:
        """Return the first observation of that name."""
        return next((mark for mark in self.marks if mark.name == name), None)

    def named(self, pattern: str) -> Sequence[Process]:
        """Return the processes that ever bore a title matching the pattern from its beginning."""
        return [process for process in self.processes if process.was(pattern)]

    def stuck_in(self, pattern: str) -> Sequence[Process]:
        """Return the processes of which a thread stood in a call that matches the pattern from its beginning."""
        keys = {one.key for one in self.standing for frame in one.frames if re.match(pattern, frame)}
        return [process for process in self.processes if process.key in keys]

    def error_types(self, mark: str) -> Sequence[str]:
        """Return the exception types of an error mark, outermost first; empty if there is no such mark."""
        found = self.mark(mark)
        return [str(link["type"]) for link in found.data.get("error", ())] if found else []

    def error_text(self, mark: str) -> str:
        """Return all texts of an error mark's chain, outermost first."""
        found = self.mark(mark)
        return "\n".join(str(link["text"]) for link in found.data.get("error", ())) if found else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What an oracle returns: the verdict, and the effective parameters that it read off the record."""

    verdict: Verdict
    effective: Mapping[str, str] = field(default_factory=dict)
    patches: tuple[str, ...] = ()
    throughput: Mapping[str, float] | None = None
