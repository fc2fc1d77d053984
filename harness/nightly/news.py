"""What is new about a cell tonight, and what the exit code minds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from harness.history.entries import Change, Entry, Standing, standing
from harness.history.speed import Speed, newly_slower, speed_of


class Kind(StrEnum):
    """News, in the order in which it is told."""

    NEWLY_FAILING = "newly failing"
    OTHER_SIGNATURE = "fails in another way"
    SLOWER = "slower"
    UNEXPECTED = "fails at first sight, or not as expected"
    UNTESTED = "no longer tested"
    FLAKY = "flaky"
    NEWLY_FIXED = "newly fixed"


ALARMS = frozenset({Kind.NEWLY_FAILING, Kind.OTHER_SIGNATURE, Kind.SLOWER, Kind.UNEXPECTED})
"""News with which a night ends with 1."""

OF_CHANGE = {
    Change.NEWLY_FAILING: Kind.NEWLY_FAILING,
    Change.OTHER_SIGNATURE: Kind.OTHER_SIGNATURE,
    Change.NEWLY_FIXED: Kind.NEWLY_FIXED,
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A track tonight, against all nights before."""

    track: str
    stands: Standing
    speed: Speed | None
    news: tuple[Kind, ...]

    @property
    def to_bisect(self) -> tuple[Entry, Entry] | None:
        """The last pass and the first failure, if something made the difference that can be searched for."""
        if not self.stands.failing or self.stands.flaky or self.stands.turned_from is None or self.stands.since is None:
            return None
        return self.stands.turned_from, self.stands.since


def finding(track: str, stands: Standing, entries: Sequence[Entry]) -> Finding:
    """Return what is new about a track; ``entries`` are its newest ones, oldest first, tonight's last."""
    before = standing(entries[:-1]) if len(entries) > 1 else None
    news = []
    known_flaky = before is not None and before.flaky
    kind = OF_CHANGE.get(stands.change)
    if kind is not None and not known_flaky:
        news.append(kind)
    known = stands.newest.as_expected
    if stands.change is Change.FIRST and (known is False or (known is None and stands.failing)):
        news.append(Kind.UNEXPECTED)
    if stands.change is Change.NOT_TESTED and before is not None and before.change is not Change.NOT_TESTED:
        news.append(Kind.UNTESTED)
    if stands.flaky and not known_flaky:
        news.append(Kind.FLAKY)
    if newly_slower(entries):
        news.append(Kind.SLOWER)
    return Finding(track=track, stands=stands, speed=speed_of(entries), news=tuple(news))


def alarming(findings: Sequence[Finding]) -> bool:
    """Whether a night with these findings ends with 1 whatever its rows say."""
    return any(kind in ALARMS for one in findings for kind in one.news)
