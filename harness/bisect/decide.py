"""From result rows to observations: what counts for the posterior, what does not, and what is skipped. Pure.

Two verdicts count: ``reproduced`` with the wanted signature, and ``absent``. Everything else is kept in the log and
never enters the posterior: an exit code of a child (124, 134, 137, 139 or any other) is only ever part of a row's
reasons, and a row without the program's nonce is never absent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from harness.judge import Row
from harness.outcome import VerdictName

OTHER_FAILURES: Final = 2
"""A version that fails in another way so many times, and never in the wanted way or not at all, is skipped."""
NO_VERDICTS: Final = 3
"""So many runs in a row without a verdict mean that the machine or the harness is broken."""


class Phase(StrEnum):
    """Why a run is made."""

    BAD_END = "bad end"
    GOOD_END = "good end"
    SEARCH = "search"
    CONFIRM = "confirm"
    SCOUT = "scout"


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One finished run, as it stands in the log."""

    number: int
    position: int
    name: str
    phase: Phase
    verdict: VerdictName
    signature: str | None = None
    reason: str = ""
    wall_s: float = 0.0
    switch_s: float = 0.0
    """What preparing the version took."""
    left: int = 0
    """Runs that the planned block has left after this one."""
    runner: int = 0
    on: tuple[str, ...] = ()
    """Of a search over knobs: those that had their failing value."""
    evidence: str = ""


def observe(row: Row, *, number: int, position: int, name: str, phase: Phase) -> Observation:
    """Return the observation of a row; nothing of the row decides but its verdict and its signature."""
    return Observation(
        number=number,
        position=position,
        name=name,
        phase=phase,
        verdict=row.verdict,
        signature=row.signature,
        reason=row.reasons[0] if row.reasons else "",
        wall_s=row.wall_s,
        evidence=row.evidence,
    )


class Counts(msgspec.Struct, frozen=True):
    """Runs of one position that count."""

    fails: int = 0
    passes: int = 0

    @property
    def runs(self) -> int:
        """Both together."""
        return self.fails + self.passes


def wanted_signature(observations: Iterable[Observation], asked: str | None) -> str | None:
    """Return what a signature must hold: what was asked for, else the first one seen at the bad end."""
    if asked is not None:
        return asked
    return next(
        (o.signature for o in observations if o.phase is Phase.BAD_END and o.verdict is VerdictName.REPRODUCED), None
    )


def effect(observation: Observation, wanted: str | None, *, asked: bool) -> bool | None:
    """Return whether a run failed as wanted (true), passed (false), or says nothing (``None``).

    A signature that was asked for may be part of the one seen; one that was learned must be the same.
    """
    if observation.verdict is VerdictName.ABSENT:
        return False
    if observation.verdict is not VerdictName.REPRODUCED:
        return None
    seen = observation.signature or ""
    if wanted is None or (wanted in seen if asked else wanted == seen):
        return True
    return None


def tally(
    observations: Sequence[Observation], asked: str | None, phases: Collection[Phase] = tuple(Phase)
) -> dict[int, Counts]:
    """Return the counts of each position that has some, over the runs made for the given reasons."""
    wanted = wanted_signature(observations, asked)
    fails: Counter[int] = Counter()
    passes: Counter[int] = Counter()
    for observation in observations:
        if observation.phase not in phases:
            continue
        match effect(observation, wanted, asked=asked is not None):
            case True:
                fails[observation.position] += 1
            case False:
                passes[observation.position] += 1
            case None:
                pass
    return {position: Counts(fails[position], passes[position]) for position in sorted(fails.keys() | passes.keys())}


def skipped(observations: Sequence[Observation], asked: str | None) -> dict[int, str]:
    """Return the positions that are not run again, with the reason.

    Untestable once is enough; another failure must come twice, and only where no run of the position ever counted.
    """
    counted = tally(observations, asked)
    strange: Counter[int] = Counter()
    reasons: dict[int, str] = {}
    for one in observations:
        if one.position in counted:
            continue
        if one.verdict is VerdictName.UNTESTABLE:
            reasons[one.position] = f"untestable: {one.reason}"
        elif one.verdict in {VerdictName.OTHER_FAILURE, VerdictName.REPRODUCED}:
            strange[one.position] += 1
            if strange[one.position] >= OTHER_FAILURES:
                reasons[one.position] = f"fails in another way: {one.signature or one.reason}"
    return reasons


def broken(observations: Sequence[Observation]) -> str | None:
    """Return why the machine cannot be trusted, if the last runs all came without a verdict."""
    tail = observations[-NO_VERDICTS:]
    if len(tail) == NO_VERDICTS and all(one.verdict is VerdictName.NO_VERDICT for one in tail):
        return f"the last {NO_VERDICTS} runs gave no verdict: {tail[-1].reason}"
    return None
