"""What happened in an attempt, with the line of the record behind every fact: lives, phases, and what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from harness import events
from harness.attempt import Attempt, Process
from harness.causes import helpers
from harness.events import Event, ProcessKey
from harness.record import build_attempt
from harness.roles import role
from reports.log import Recorded

NAME_CHARS: Final = 44
OURS: Final = "stop:"
"""How `ended_by` begins when our own stop ladder ended a process."""
ORPHANED_S: Final = 1.0

_Said = events.PhaseMarked | events.Observed | events.NonceSaid


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One fact at one time: `t_s` in seconds since the start of the attempt, `line` in ``events.jsonl``."""

    t_s: float
    line: int
    what: str
    text: str
    key: ProcessKey | None = None
    path: str = ""
    """Of a capture: its file, relative to the attempt's folder; empty if the tool gave none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A phase that the program declared; without an end it never came to one."""

    name: str
    pid: int
    start_s: float
    start_line: int
    end_s: float | None
    end_line: int | None
    state: str


@dataclass(slots=True, kw_only=True)
class Lane:
    """A process as the timeline shows it."""

    process: Process
    depth: int = 0
    born_s: float
    born_line: int
    died_s: float | None
    died_line: int | None
    role: str
    helper: bool
    """Whether it is drawn among the helpers (`harness.causes.helpers`)."""
    children: int = 0
    """Children that are no helpers."""
    titles: list[Moment] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The pid, for people; two lanes may have the same one."""
        return self.process.key.pid

    @property
    def how(self) -> str:
        """How it ended, in words."""
        status = self.process.status
        return status.describe() if status is not None else "no end seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """An attempt told with its lines."""

    attempt: Attempt
    span_s: float
    started_line: int
    ended_line: int | None
    lanes: tuple[Lane, ...]
    """Processes as a tree, parents before children, brothers by birth."""
    phases: tuple[Phase, ...]
    moments: tuple[Moment, ...]
    """Facts that belong to no process: suspicions, steps of the stop ladder, notes, gates."""
    incidents: tuple[Moment, ...]
    """What went wrong, by the time at which each was seen; the first is the first cause as far as the record says."""
    effective_lines: tuple[int, ...]
    facts: int


def tell(cell: str, number: int, params: dict[str, str], recorded: Sequence[Recorded]) -> Story | None:
    """Fold the lines of an attempt; ``None`` if none of them could be read."""
    if not recorded:
        return None
    facts = [one.event for one in recorded]
    attempt = build_attempt(cell, number, params, facts)
    teller = _Teller(attempt, recorded)
    lanes = _as_tree(teller.lanes)
    return Story(
        attempt=attempt,
        span_s=max(0.001, *(teller.seconds(fact) for fact in facts)),
        started_line=teller.line_of(events.AttemptStarted) or recorded[0].line,
        ended_line=teller.line_of(events.AttemptEnded),
        lanes=tuple(lanes),
        phases=tuple(teller.phases()),
        moments=tuple(teller.loose),
        incidents=tuple(sorted(teller.incidents, key=lambda moment: (moment.t_s, moment.line))),
        effective_lines=tuple(one.line for one in recorded if isinstance(one.event, events.EffectiveSeen)),
        facts=len(recorded),
    )


class _Teller:
    """Goes through the lines once."""

    def __init__(self, attempt: Attempt, recorded: Sequence[Recorded]) -> None:
        self.attempt = attempt
        self.recorded = recorded
        self.helpers = helpers(attempt)
        self.by_key: dict[ProcessKey, Lane] = {}
        self.by_pid: dict[int, Lane] = {}
        self.loose: list[Moment] = []
        self.incidents: list[Moment] = []
        self._processes = {process.key: process for process in attempt.processes}
        self._orphans = {process.key for process in attempt.processes if process.orphaned_s >= ORPHANED_S}
        for one in recorded:
            self._take(one)
        self._deaths()

    @property
    def lanes(self) -> list[Lane]:
        """The lanes in the order of birth."""
        return list(self.by_key.values())

    def seconds(self, event: Event, at_ns: int | None = None) -> float:
        """Return seconds since the start of the attempt, never negative."""
        return max(0.0, ((event.t_ns if at_ns is None else at_ns) - self.attempt.started_ns) / 1e9)

    def line_of(self, kind: type[Event]) -> int | None:
        """Return the line of the first event of a kind."""
        return next((one.line for one in self.recorded if isinstance(one.event, kind)), None)

    def phases(self) -> list[Phase]:
        """Pair begins with ends, by name and pid; what is still open stays open."""
        open_: dict[tuple[str, int], tuple[float, int]] = {}
        done: list[Phase] = []
        for one in self.recorded:
            match one.event:
                case events.PhaseMarked(phase=name, pid=pid, state="begin") as fact:
                    open_[name, pid] = (self.seconds(fact, fact.at_ns), one.line)
                case events.PhaseMarked(phase=name, pid=pid, state=state) as fact:
                    end = self.seconds(fact, fact.at_ns)
                    start = open_.pop((name, pid), (end, one.line))
                    done.append(_phase(name, pid, start, (end, one.line), state))
        done += [_phase(name, pid, start, None, "open") for (name, pid), start in open_.items()]
        return sorted(done, key=lambda phase: (phase.start_s, phase.start_line))

    def _take(self, one: Recorded) -> None:
        event, line = one.event, one.line
        match event:
            case events.ProcessBorn():
                self._born(event, line)
            case events.ProcessRenamed(key=key, name=name) if key in self.by_key:
                self.by_key[key].titles.append(self._moment(one, "renamed", name, key))
            case events.ProcessReparented(key=key, ppid=ppid):
                text = f"{self._who(key)} lost its parent; its parent is now {ppid}"
                self._at(self._moment(one, "reparented", text, key), bad=key in self._orphans)
            case events.ProcessDied(key=key) if key in self.by_key:
                self.by_key[key].died_s, self.by_key[key].died_line = self.seconds(event), line
            case events.PhaseMarked(phase=phase, state="failed") as fact:
                text = f"phase {phase} failed" + (f": {fact.data['error']}" if "error" in fact.data else "")
                self._said(one, "phase failed", text, fact, bad=True)
            case events.Observed(mark=mark, data=data) as fact:
                error = describe_error(data)
                text = f"{mark}: {error}" if error else f"{mark}{_figures(data)}"
                self._said(one, "error" if error else "observed", text, fact, bad=bool(error))
            case events.NonceSaid(valid=valid) as fact:
                text = "the program said its end-of-run word" if valid else "a wrong end-of-run word was said"
                self._said(one, "nonce", text, fact, bad=False)
            case _:
                self._supervisor(one)

    def _supervisor(self, one: Recorded) -> None:
        """Take what the harness did or found, as opposed to the program."""
        match one.event:
            case events.Suspected(suspicion=suspicion, reasons=reasons, proved=proved):
                text = f"{suspicion} ({'proved' if proved else 'suspected'})" + "".join(f"; {r}" for r in reasons)
                self._at(self._moment(one, "suspected", text), bad=True)
            case events.StacksCaptured(key=key, path=path, detail=detail) as fact:
                partial = ", partial" if fact.partial else ""
                held = f", held {fact.held_s:.2f} s" if fact.held_s else ""
                text = f"{fact.tool}, {fact.seconds:.2f} s{held}{partial}" + (f": {detail}" if detail else "")
                self._at(replace(self._moment(one, "capture", text, key), path=path), bad=False)
            case events.FaultAttempted(fault=fault, target=target, key=key):
                self._at(self._moment(one, "fault", f"{fault} attempted on {self._who(key, target)}", key), bad=True)
            case events.FaultConfirmed(fault=fault, detail=detail):
                self._at(self._moment(one, "fault confirmed", f"{fault}: {_brief(detail)}"), bad=True)
            case events.FaultFailed(fault=fault, detail=detail):
                self._at(self._moment(one, "fault failed", f"{fault}: {_brief(detail)}"), bad=True)
            case _:
                self._found(one)

    def _found(self, one: Recorded) -> None:
        """Take what the harness came upon while it supervised, and how the attempt ended."""
        match one.event:
            case events.StopStep(step=step, keys=keys):
                text = f"{step}: {', '.join(str(key.pid) for key in keys) or 'nobody'}"
                self._at(self._moment(one, "stop step", text), bad=False)
            case events.FaultUndone(fault=fault, detail=detail):
                self._at(self._moment(one, "fault undone", f"{fault} {detail}".strip()), bad=False)
            case events.ShmSeen(path=path, size=size, key=key):
                self._at(self._moment(one, "shared memory", f"{path}, {size} bytes", key), bad=False)
            case events.LeftBehind(what=what, name=name, key=key, bytes=size):
                text = f"{what} {name}" + (f", {size} bytes" if size else "")
                self._at(self._moment(one, "left behind", text, key), bad=True)
            case events.GateChecked(moment=moment, clean=clean, notes=notes):
                text = f"gate {moment}: {'clean' if clean else 'not clean'}{''.join(f'; {note}' for note in notes)}"
                self._at(self._moment(one, "gate", text), bad=not clean)
            case events.AttemptEnded(end=end) if end != "exited":
                self._at(self._moment(one, "attempt ended", f"ended by {end}"), bad=True)
            case events.AttemptSkipped(verdict=verdict, reason=reason):
                self._at(self._moment(one, "not started", f"{verdict}: {reason}"), bad=True)
            case events.HarnessNote(note=note):
                self._at(self._moment(one, "note", note), bad=False)
            case _:
                pass

    def _who(self, key: ProcessKey | None, otherwise: str = "") -> str:
        """Return role and pid of a process, or what else is known of it."""
        lane = self.by_key.get(key) if key is not None else None
        if lane is not None:
            return f"{short_name(lane)} (pid {lane.pid})"
        return otherwise[:120] or (f"pid {key.pid}" if key is not None else "nobody")

    def _born(self, event: events.ProcessBorn, line: int) -> None:
        process = self._processes[event.key]
        parent = self.by_key.get(event.parent) if event.parent is not None else None
        lane = Lane(
            process=process,
            depth=parent.depth + 1 if parent else 0,
            born_s=self.seconds(event),
            born_line=line,
            died_s=None,
            died_line=None,
            role=role(process.name),
            helper=event.key in self.helpers,
        )
        if parent is not None and not lane.helper:
            parent.children += 1
        self.by_key[event.key] = self.by_pid[event.key.pid] = lane

    def _deaths(self) -> None:
        """Add the ends that are nobody's order: by a signal, or with a status other than 0 (helpers' apart)."""
        for lane in self.lanes:
            status = lane.process.status
            if (
                lane.died_s is None
                or lane.died_line is None
                or status is None
                or lane.process.ended_by.startswith(OURS)
            ):
                continue
            if status.signal is None and (status.exit_code == 0 or lane.helper):
                continue
            by = f", by {lane.process.ended_by}" if lane.process.ended_by else ""
            text = f"{short_name(lane)} (pid {lane.pid}) ended: {status.describe()}{by} [{status.source}]"
            kind = "signal death" if status.signal else "exit"
            self.incidents.append(
                Moment(t_s=lane.died_s, line=lane.died_line, what=kind, text=text, key=lane.process.key)
            )

    def _moment(self, one: Recorded, what: str, text: str, key: ProcessKey | None = None) -> Moment:
        return Moment(t_s=self.seconds(one.event), line=one.line, what=what, text=text, key=key)

    def _said(self, one: Recorded, what: str, text: str, fact: _Said, *, bad: bool) -> None:
        """Note what a program said, at the time that its own clock gave."""
        lane = self.by_pid.get(fact.pid)
        key = lane.process.key if lane else None
        at_ns = None if isinstance(fact, events.NonceSaid) else fact.at_ns
        self._at(Moment(t_s=self.seconds(fact, at_ns), line=one.line, what=what, text=text, key=key), bad=bad)

    def _at(self, moment: Moment, *, bad: bool) -> None:
        lane = self.by_key.get(moment.key) if moment.key is not None else None
        (lane.moments if lane is not None else self.loose).append(moment)
        if bad:
            self.incidents.append(moment)


def short_name(lane: Lane) -> str:
    """Return the role where it is known, otherwise the last title without the folder of its program."""
    if lane.role != "other":
        return lane.role
    head, _, rest = lane.process.name.removesuffix(" ").partition(" ")
    name = f"{head.rpartition('/')[2]} {rest.removeprefix('-m ')}".strip()
    return name if len(name) <= NAME_CHARS else name[: NAME_CHARS - 1] + "…"


def describe_error(data: dict[str, Any]) -> str:
    """Return type and first line of the outermost error of a mark; empty if it carries none."""
    chain = data.get("error")
    if isinstance(chain, str):
        return chain
    if not isinstance(chain, list | tuple) or not chain or not isinstance(chain[0], dict):
        return ""
    text = str(chain[0].get("text", "")).strip()
    line = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    return f"{chain[0].get('type', 'error')}: {line.strip()[:200]}" + (
        f" (and {len(chain) - 1} behind it)" if len(chain) > 1 else ""
    )


def _brief(text: str) -> str:
    """Leave out the middle of a long text: command lines come first there, and the outcome last."""
    return text if len(text) <= 160 else f"{text[:60]} … {text[-90:]}"  # noqa: PLR2004 - a line and a half


def _figures(data: dict[str, Any]) -> str:
    flat = [f"{key}={value}" for key, value in data.items() if isinstance(value, str | int | float) and value != ""]
    return f" ({', '.join(flat)[:160]})" if flat else ""


def _phase(name: str, pid: int, start: tuple[float, int], end: tuple[float, int] | None, state: str) -> Phase:
    return Phase(
        name=name,
        pid=pid,
        start_s=start[0],
        start_line=start[1],
        end_s=end[0] if end else None,
        end_line=end[1] if end else None,
        state=state,
    )


def _as_tree(lanes: list[Lane]) -> list[Lane]:
    """Order lanes so that each stands below its parent; without recursion, as trees may be deep."""
    known = {lane.process.key for lane in lanes}
    below: dict[ProcessKey | None, list[Lane]] = {}
    for lane in lanes:
        parent = lane.process.parent
        below.setdefault(parent if parent in known else None, []).append(lane)
    ordered: list[Lane] = []
    waiting = list(reversed(below.get(None, [])))
    while waiting:
        lane = waiting.pop()
        ordered.append(lane)
        waiting.extend(reversed(below.get(lane.process.key, [])))
    return ordered
