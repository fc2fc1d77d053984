"""The ordered range that is searched, and its testable part. Pure.

A history is written from its good to its bad end, whatever the direction in time: to find what *fixed* a failure, the
range is searched from the new, good versions back to the old, bad ones, and the last bad one has the fix after it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from enum import StrEnum

import msgspec

from harness.errors import UsageError


class Direction(StrEnum):
    """What is searched for."""

    FIRST_BAD = "first bad"
    FIRST_FIXED = "first fixed"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One version: how people call it, and what runs of it differ in."""

    name: str
    params: dict[str, str] = {}
    """Axis values of the scenario."""
    source: dict[str, str] = {}
    """What the axis needs to prepare it, such as a commit or the URL of a wheel."""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Candidates from the good end (position 0) to the bad end."""

    direction: Direction
    candidates: tuple[Candidate, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names in the order of the positions."""
        return tuple(candidate.name for candidate in self.candidates)

    def culprit(self, position: int) -> str:
        """Return the name of what made the difference: the first bad version, or the first fixed one."""
        return self.candidates[position if self.direction is Direction.FIRST_BAD else position - 1].name

    def parent(self, position: int) -> str:
        """Return the name of the version before the culprit in time."""
        return self.candidates[position - 1 if self.direction is Direction.FIRST_BAD else position].name


def orient(candidates: Sequence[Candidate], *, good: str | None, bad: str | None, first_fixed: bool = False) -> History:
    """Return the history between two ends; ``candidates`` are in their order in time.

    The direction follows from the ends where both are named, otherwise from ``first_fixed``.

    Raises:
        UsageError: If an end is unknown, or nothing lies between them.
    """
    names = [candidate.name for candidate in candidates]
    for end in (good, bad):
        if end is not None and end not in names:
            msg = f"{end!r} is none of the {len(names)} versions"
            raise UsageError(msg, hint=f"they go from {names[0]} to {names[-1]}" if names else "there is none")
    if good is not None and bad is not None:
        first_fixed = names.index(good) > names.index(bad)
    first, last = (bad, good) if first_fixed else (good, bad)
    begin = names.index(first) if first is not None else 0
    until = names.index(last) if last is not None else len(names) - 1
    chosen = list(candidates[begin : until + 1])
    if len(chosen) < 2:  # noqa: PLR2004 - two ends
        msg = "a bisection needs at least two versions: a good and a bad end"
        raise UsageError(msg, hint="name other ends with --good and --bad")
    if first_fixed:
        chosen.reverse()
    direction = Direction.FIRST_FIXED if first_fixed else Direction.FIRST_BAD
    return History(direction=direction, candidates=tuple(chosen))


class Slots(msgspec.Struct, frozen=True):
    """The testable positions of a history, numbered 0 … N for the engine: 0 is the good end, N the bad one.

    A culprit between two testable positions cannot be told from its neighbours there: the slot stands for all of them.
    """

    positions: tuple[int, ...]

    @classmethod
    def of(cls, size: int, skipped: Collection[int]) -> Slots:
        """Return the slots of a history of that size, less what cannot be tested."""
        return cls(tuple(position for position in range(size) if position not in skipped))

    @property
    def last(self) -> int:
        """N, the slot of the bad end."""
        return len(self.positions) - 1

    def weights(self) -> list[int]:
        """Return how many positions each of the slots 1 … N stands for."""
        return [high - low for low, high in zip(self.positions, self.positions[1:], strict=False)]

    def slot(self, position: int) -> int | None:
        """Return the slot of a testable position."""
        index = bisect_left(self.positions, position)
        return index if index < len(self.positions) and self.positions[index] == position else None

    def span(self, slot: int) -> tuple[int, int]:
        """Return the first and the last position that a slot from 1 to N stands for."""
        return self.positions[slot - 1] + 1, self.positions[slot]
