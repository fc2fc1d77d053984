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
"""A version beyond the culprit that passes against such odds is taken for good."""
ODD_P: Final = 0.2
"""One that passes against such odds is looked at again."""


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


def pairs_wanted(rate: float, bad: Counts, good: Counts) -> int:
    """Return how many pairs to run: as many as the rate needs, and once more so many where they left a doubt.

    The rate is an estimate, often from a few failures. A second look makes the p-value a little smaller than it should
    be, which is why the posterior, and not this test, decides what is named.
    """
    pairs = pairs_needed(rate)
    doubtful = min(bad.runs, good.runs) >= pairs and fisher(bad, good) > CONFIRM_P
    return 2 * pairs if doubtful else pairs


def surprising(culprit: int, counts: Mapping[int, Counts]) -> dict[int, float]:
    """Return the versions beyond the culprit that only passed, with the p-value that this is chance.

    A version that is bad, too, would fail as often as the others: one that does not hints at a second transition.
    """
    beyond = {position: count for position, count in counts.items() if position >= culprit}
    found = {}
    for position, count in beyond.items():
        if position > culprit and not count.fails:
            rest = [other for at, other in beyond.items() if at != position]
            others = Counts(sum(one.fails for one in rest), sum(one.passes for one in rest))
            found[position] = fisher(others, count)
    return found


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
    odd = {position: p for position, p in surprising(culprit, counts).items() if p <= CHANGED_P}
    if odd:
        found.append(
            f"{len(odd)} version(s) beyond the culprit do not fail (p = {min(odd.values()):.2g}): there is more than "
            "one transition"
        )
    earlier = [position for position, count in counts.items() if position < culprit and count.fails]
    if earlier:
        found.append(f"not monotone: it was also reproduced at {len(earlier)} version(s) before the culprit")
    return tuple(found)
