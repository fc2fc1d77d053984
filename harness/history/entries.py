"""What the history knows of one cell in one run, and how a track of such entries stands. Pure.

A *track* is a cell whose version axes may float: ``actor_gc[verl=*,keep_parent=false]`` is the same track every night,
whatever release `*` was then. A cell that nothing floats in is its own track. Entries are compared within a track and
on machines of one kind only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from harness.outcome import VerdictName

FAILS: Final[dict[VerdictName, bool | None]] = {
    VerdictName.ABSENT: False,
    VerdictName.REPRODUCED: True,
    VerdictName.OTHER_FAILURE: True,
}
"""Whether a verdict is a failure; the ones that are not listed say nothing."""
FLAKY_S: Final = 14 * 86400
"""A pass and a failure with the same versions, no further apart from the newest entry than this, in seconds."""
STEADY: Final = 5
"""So many equal outcomes in a row, and a track is not called flaky any more."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One cell in one run."""

    run: str
    at: int
    """When the run began, in seconds since 1970."""
    scenario: str
    cell: str
    track: str
    machine: str
    verdict: VerdictName
    expected: VerdictName | None = None
    as_expected: bool | None = None
    signature: str | None = None
    reason: str = ""
    versions: dict[str, str] = {}
    attempts: int = 1
    reproduced: int = 0
    wall_s: float = 0.0
    tok_s: float | None = None
    path: str = ""

    @property
    def fails(self) -> bool | None:
        """Whether it failed; ``None`` where the verdict says neither."""
        return FAILS.get(self.verdict)


class Change(StrEnum):
    """What the newest entry of a track is to the one before it that said something."""

    NEWLY_FAILING = "newly failing"
    NEWLY_FIXED = "newly fixed"
    OTHER_SIGNATURE = "fails in another way"
    FIRST = "first seen"
    STILL_FAILING = "still failing"
    PASSING = "still passing"
    NOT_TESTED = "not tested"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a track stands after its newest entry."""

    change: Change
    newest: Entry
    before: Entry | None = None
    """The last entry before the newest one that said something."""
    since: Entry | None = None
    """The first entry of the present row of passes or failures; ``None`` where nothing ever said anything."""
    turned_from: Entry | None = None
    """The last entry of the opposite outcome, before ``since``."""
    flaky: bool = False

    @property
    def failing(self) -> bool:
        """Whether the last entry that said something is a failure."""
        return self.since is not None and self.since.fails is True


def standing(entries: Sequence[Entry]) -> Standing:
    """Return how a track stands; its entries are of one kind of machine, oldest first, and at least one.

    Entries between the first of the present row and the last ones may be missing: only turns matter.
    """
    newest = entries[-1]
    said = [entry for entry in entries if entry.fails is not None]
    if not said:
        return Standing(change=Change.NOT_TESTED, newest=newest)
    last = said[-1]
    opposite = next((index for index in range(len(said) - 1, -1, -1) if said[index].fails is not last.fails), None)
    before = said[-2] if len(said) > 1 else None
    return Standing(
        change=_change(last, before) if last is newest else Change.NOT_TESTED,
        newest=newest,
        before=before if last is newest else last,
        since=said[0] if opposite is None else said[opposite + 1],
        turned_from=None if opposite is None else said[opposite],
        flaky=is_flaky(said),
    )


def _change(last: Entry, before: Entry | None) -> Change:
    if before is None:
        return Change.FIRST
    if last.fails is not before.fails:
        return Change.NEWLY_FAILING if last.fails else Change.NEWLY_FIXED
    if not last.fails:
        return Change.PASSING
    same = (last.verdict, last.signature) == (before.verdict, before.signature)
    return Change.STILL_FAILING if same else Change.OTHER_SIGNATURE


def is_flaky(said: Sequence[Entry]) -> bool:
    """Whether a pass and a failure stand beside each other at the same versions, and the last outcomes do not agree."""
    if not said or (len(said) >= STEADY and len({entry.fails for entry in said[-STEADY:]}) == 1):
        return False
    outcomes: dict[tuple[tuple[str, str], ...], set[bool | None]] = defaultdict(set)
    for entry in said:
        if said[-1].at - entry.at <= FLAKY_S:
            outcomes[tuple(sorted(entry.versions.items()))].add(entry.fails)
    return any(len(seen) > 1 for seen in outcomes.values())


def first_failures(entries: Iterable[Entry]) -> list[tuple[Entry | None, Entry]]:
    """Return each failure that follows a pass, or another failure, with what it follows: nothing, at the beginning.

    The pairs are all that is needed to find the same pairs again, so that deleting the rest loses none of them.
    """
    found: list[tuple[Entry | None, Entry]] = []
    before: Entry | None = None
    for entry in entries:
        if entry.fails is None:
            continue
        if entry.fails and (before is None or (before.verdict, before.signature) != (entry.verdict, entry.signature)):
            found.append((before, entry))
        before = entry
    return found


def differing(a: Entry, b: Entry) -> dict[str, tuple[str, str]]:
    """Return what is installed in other versions, by name: (in a, in b)."""
    names = dict.fromkeys((*a.versions, *b.versions))
    pairs = {name: (a.versions.get(name, "-"), b.versions.get(name, "-")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
