"""Whether a named culprit can be trusted: exact tests of counts, the runs they need, what looks suspicious. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, comb, log, sqrt
from typing import Final

from harness.bisect.decide import Counts
from harness.bisect.rates import Belief

CONFIRM_P: Final = 0.05
"""The interleaved confirmation is long enough for Fisher's exact test to reach this, at the reproduction rate seen."""
MOST_PAIRS: Final = 30
END_DOUBT: Final = 0.05
"""Probability, at most, that a bad version would have passed all checks of the good end."""
CHANGED_P: Final = 0.01


def fisher(more: Counts, less: Counts) -> float:
    """Return the one-sided p-value that ``more`` fails as often as it did by chance, given both totals.

    Source: R. A. Fisher's exact test; the tail of the hypergeometric distribution.
    """
    fails, total = more.fails + less.fails, more.runs + less.runs
    if not total:
        return 1.0
    top = min(fails, more.runs)
    ways = sum(comb(more.runs, k) * comb(less.runs, fails - k) for k in range(more.fails, top + 1))
    return ways / comb(total, fails)


def pairs_needed(rate: float) -> int:
    """Return how many pairs of runs show a difference, even one standard deviation below the expected failures."""
    for pairs in range(1, MOST_PAIRS):
        fails = int(rate * pairs - sqrt(pairs * rate * (1 - rate)) + 1e-9)
        if fails and fisher(Counts(fails, pairs - fails), Counts(0, pairs)) <= CONFIRM_P:
            return pairs
    return MOST_PAIRS


def passes_needed(belief: Belief, bad_end: Counts, doubt: float = END_DOUBT) -> int:
    """Return how many passes make it improbable that the good end is bad, after what the bad end showed."""
    runs = 1
    while belief.pass_all(bad_end.fails, bad_end.passes, runs) > doubt and runs < 1 << 12:
        runs += 1
    return runs


def runs_to_see(rate: float, certainty: float = 0.95) -> int:
    """Return how many runs show a failure of that rate at least once with this certainty."""
    return 1 if rate >= 1 else ceil(log(1 - certainty) / log(1 - rate))


def suspicions(
    *,
    culprit: int,
    counts: Mapping[int, Counts],
    culprit_hash: str | None,
    parent_hash: str | None,
    confirmed: tuple[Counts, Counts],
) -> tuple[str, ...]:
    """Return what speaks against a named culprit, in sentences.

    Args:
        culprit: Position of the first bad version.
        counts: Everything that was counted, by position.
        culprit_hash: Hash of what was installed or built for it.
        parent_hash: The same of the last good version.
        confirmed: The interleaved runs of the culprit and of its parent.
    """
    found = []
    if culprit_hash is not None and culprit_hash == parent_hash:
        found.append(f"culprit and parent have the same artefact ({culprit_hash[:12]}): most likely it is neither")
    at, before = confirmed
    if at.runs and fisher(at, before) > CONFIRM_P:
        found.append(f"the interleaved runs do not tell culprit and parent apart (p = {fisher(at, before):.2g})")
    here = counts.get(culprit, Counts())
    later = [count for position, count in counts.items() if position > culprit]
    beyond = Counts(sum(count.fails for count in later), sum(count.passes for count in later))
    if beyond.runs and here.runs:
        p = min(fisher(here, beyond), fisher(beyond, here))
        if p <= CHANGED_P:
            found.append(
                f"the rate changes along the range: {here.fails}/{here.runs} at the culprit, "
                f"{beyond.fails}/{beyond.runs} beyond it (p = {p:.2g}); there may be more than one transition"
            )
    earlier = [position for position, count in counts.items() if position < culprit and count.fails]
    if earlier:
        found.append(f"not monotone: it was also reproduced at {len(earlier)} version(s) before the culprit")
    return tuple(found)
