"""What failed first: deaths, errors and faults in the order in which they were seen; later ones are consequences.

The order is the kernel's, by the monotonic clock: a process that dies of a signal writes no traceback, and the victim
that does must not win over it (torchelastic's order by whole seconds of error files does just that).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from harness.attempt import Attempt, Mark, Process
from harness.events import ProcessKey
from harness.roles import role

HELPER_S: Final = 2.0
"""A process that lived for less than this, in seconds, is a helper unless it shows more (`helpers`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One thing that went wrong, at ``t_s`` seconds after the start of the attempt."""

    t_s: float
    what: str
    who: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedError:
    """An error that another one hid: what the caller saw, and what had happened before."""

    shown: str
    hidden: str
    t_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The first cause, what followed, and what was hidden."""

    first: Happening | None
    consequences: tuple[Happening, ...]
    masked: tuple[MaskedError, ...]


def helpers(attempt: Attempt) -> frozenset[ProcessKey]:
    """Return the short-lived processes that said nothing, were killed by nobody, and had only such children.

    A probe that exits with 1, as ``grep`` does, is an answer and no failure.
    """
    spoke = {mark.pid for mark in (*attempt.marks, *attempt.phases)}
    told = {key for doubt in attempt.suspicions for key in doubt.keys}
    parents: set[ProcessKey] = set()
    found = set()
    for process in sorted(attempt.processes, key=lambda one: one.born_ns, reverse=True):
        short = process.died_ns is not None and process.died_ns - process.born_ns < HELPER_S * 1e9
        plain = process.status is not None and process.status.signal is None and not process.ended_by
        silent = process.key.pid not in spoke and process.key not in told and process.key not in parents
        if short and plain and silent and process.claimed_by != "root":
            found.add(process.key)
        elif process.parent is not None:
            parents.add(process.parent)
    return frozenset(found)


def tell(attempt: Attempt) -> Story:
    """Return what failed first in an attempt. What our own stop ladder ended is no failure, nor is a helper's exit."""
    silent = helpers(attempt)
    happenings = [
        *(_fault(attempt, fault.fault, fault.attempted_ns, fault.detail) for fault in attempt.faults),
        *(_death(attempt, process) for process in attempt.processes if process.key not in silent and _failed(process)),
        *(_error(attempt, mark) for mark in attempt.marks if mark.data.get("error")),
        *(
            Happening(
                t_s=_since(attempt, doubt.t_ns),
                what="hang",
                who=", ".join(f"pid {key.pid}" for key in doubt.keys[:4]),
                detail=f"{doubt.suspicion}: {'; '.join(doubt.reasons[:2])}",
            )
            for doubt in attempt.suspicions
            if doubt.suspicion != "survivors"
        ),
    ]
    ordered = sorted(happenings, key=lambda happening: happening.t_s)
    return Story(
        first=ordered[0] if ordered else None,
        consequences=tuple(ordered[1:]),
        masked=tuple(masked for mark in attempt.marks if (masked := _masked(attempt, mark)) is not None),
    )


def _since(attempt: Attempt, t_ns: int) -> float:
    return round((t_ns - attempt.started_ns) / 1e9, 3)


def _failed(process: Process) -> bool:
    status = process.status
    ended_by_us = process.ended_by.startswith(("stop:", "fault:"))
    return (
        status is not None and status.known and not ended_by_us and (status.signal is not None or status.exit_code != 0)
    )


def _death(attempt: Attempt, process: Process) -> Happening:
    how = process.status.describe() if process.status else ""
    who = f"{role(process.name)} {process.name[:60]} (pid {process.key.pid})"
    return Happening(t_s=_since(attempt, process.died_ns or attempt.started_ns), what="death", who=who, detail=how)


def _fault(attempt: Attempt, name: str, t_ns: int, detail: str) -> Happening:
    return Happening(t_s=_since(attempt, t_ns), what="fault", who=name, detail=detail)


def _error(attempt: Attempt, mark: Mark) -> Happening:
    innermost: dict[str, Any] = mark.data["error"][-1]
    detail = f"{innermost['type']}: {str(innermost['text']).splitlines()[0] if innermost['text'] else ''}"
    return Happening(t_s=_since(attempt, mark.t_ns), what="error", who=f"{mark.name} (pid {mark.pid})", detail=detail)


def _masked(attempt: Attempt, mark: Mark) -> MaskedError | None:
    """An error chain whose innermost error is of another type than the one that the caller saw."""
    chain = mark.data.get("error") or []
    if len(chain) < 2 or chain[0]["type"] == chain[-1]["type"]:  # noqa: PLR2004 - a chain has at least two links
        return None
    shown, hidden = (f"{link['type']}: {str(link['text'])[:200]}" for link in (chain[0], chain[-1]))
    return MaskedError(shown=shown, hidden=hidden, t_s=_since(attempt, mark.t_ns))
