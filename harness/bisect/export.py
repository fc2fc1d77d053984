"""The log of a bisection as ``git bisect`` reads it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.bisect.decide import Observation
from harness.bisect.history import Direction
from harness.bisect.search import ContradictionError
from harness.bisect.steps import Settings, View

SURE: Final = 0.05
TERMS: Final = {Direction.FIRST_BAD: ("good", "bad"), Direction.FIRST_FIXED: ("fixed", "broken")}


def git_log(settings: Settings, log: Sequence[Observation]) -> str:
    """Return what ``git bisect replay`` reads: a verdict for each version of which the log is sure.

    ``git bisect`` knows one answer per commit and no rate. A version that has failed is bad. One that has only passed
    is good if the posterior says so, and is a comment otherwise: a rare failure may yet be in it.
    """
    view = View.of(settings, log)
    good, bad = TERMS[settings.history.direction]
    old, new = (good, bad) if settings.history.direction is Direction.FIRST_BAD else (bad, good)
    start = "git bisect start" + (f" --term-old={old} --term-new={new}" if new != "bad" else "")
    lines = [start]
    # Of the newer kind git remembers the last one that it is told: the one nearest to the transition.
    for position in sorted(view.counts, reverse=settings.history.direction is Direction.FIRST_BAD):
        count = view.at(position)
        sure = bool(count.fails) or _surely_good(view, position)
        lines += _lines(settings, position, (bad if count.fails else good) if sure else None)
    for position, reason in view.skips.items():
        lines += [f"# {reason}", *_lines(settings, position, "skip")]
    return "\n".join(lines) + "\n"


def _surely_good(view: View, position: int) -> bool:
    slot = view.slots.slot(position)
    try:
        return slot == 0 or (slot is not None and view.posterior().at_most(slot) <= SURE)
    except ContradictionError:
        return False


def _lines(settings: Settings, position: int, verdict: str | None) -> list[str]:
    candidate = settings.history.candidates[position]
    commit = candidate.source.get("commit", candidate.name)
    title = candidate.source.get("subject", candidate.name)
    if verdict is None:
        return [f"# not sure: [{commit}] {title}"]
    return [f"# {verdict}: [{commit}] {title}", f"git bisect {verdict} {commit}"]
