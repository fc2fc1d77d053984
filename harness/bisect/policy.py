"""Which version to run next: the most information about the culprit per unit of cost. Pure.

The unit of choice is a block: go to a version and run it until it fails, at most ``runs`` times. With free switching
a block is one run. With costly switching, longer blocks pay: that is what makes plain entropy search lose to the
simplest repetition there (docs/adr/0002). After every run the posterior is exact again, whatever block it came from. A
block that has been begun is finished unless it fails, even if the culprit could be named before: where one already is,
a run halves the doubt for a fraction of what coming back would cost.

Information is that of the outcome about the culprit: the entropy of the outcome less its entropy where the culprit is
known. Several runners: the entropy is conditional on the outcomes that are still pending, so that runners spread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import log2
from typing import Final

from harness.bisect.search import Posterior, Segment

QUANTILES: Final = tuple(step / 32 for step in range(2, 31))
LADDER: Final = (1, 2, 3, 4, 6, 8, 11, 16, 22, 32, 45, 64)
"""Lengths of block that are weighed against each other."""
PENDING: Final = 6
"""Pending runs whose outcomes are told apart; with more, the oldest are taken as passes."""
NEGLIGIBLE: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What things cost, in any one unit (seconds, or runs): a passing run, a failing one, going to another version."""

    passing: float = 1.0
    failing: float = 1.0
    switch: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Run this position until it fails, at most so many times."""

    position: int
    runs: int
    gain: float
    """Expected information, in bits."""
    cost: float
    """Expected cost, in the unit of the costs."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """A piece of the posterior between two candidate positions."""

    high: int
    mass: float
    segment: Segment


def choose(posterior: Posterior, costs: Costs, *, current: int | None = None, pending: Sequence[int] = ()) -> Probe:
    """Return the best next probe.

    Args:
        posterior: What is known.
        costs: What a run and a switch cost.
        current: The position that the runner is at, which costs no switch.
        pending: Positions of runs that other runners have not finished.
    """
    if not costs.switch and costs.passing == costs.failing and not pending:
        return _cheapest(posterior, costs)
    cells = _cells(posterior, _candidates(posterior, current, pending))
    ladder = LADDER if costs.switch else (1,)
    probes = [
        probe
        for runs in ladder
        for probe in _weigh(posterior, cells, runs=runs, costs=costs, current=current, pending=pending)
    ]
    return max(probes, key=lambda probe: probe.gain / probe.cost)


def entropy(share: float) -> float:
    """Return the entropy of a coin, in bits."""
    return 0.0 if share <= 0 or share >= 1 else -share * log2(share) - (1 - share) * log2(1 - share)


def _cheapest(posterior: Posterior, costs: Costs) -> Probe:
    """Return the best single run where all cost the same.

    Within a segment the gain is concave in the mass below the tested position, with its maximum where the probability
    of a failure is 1 / (1 + 2^(h(r)/r)), r being the rate; so one point per segment and its neighbours are enough.
    """
    best, found = -1.0, posterior.ceiling
    failing = known = 0.0
    prefix = posterior.prefix
    for segment in posterior.segments:
        rate, noise = segment.rate, entropy(segment.rate)
        target = 1 / (1 + 2 ** (noise / rate))
        span = min(max((target - failing) / (rate * segment.mass), 0.0), 1.0)
        low, high = prefix[segment.low], prefix[segment.high]
        middle = bisect_left(prefix, low + span * (high - low) - NEGLIGIBLE, segment.low, segment.high)
        for position in {max(segment.low, middle - 1), middle, min(segment.high, middle + 1)}:
            if position == segment.low:  # the previous segment's end, or the good end
                continue
            part = segment.mass * (prefix[position] - low) / (high - low)
            gain = entropy(failing + rate * part) - known - part * noise
            if gain > best:
                best, found = gain, position
        failing += rate * segment.mass
        known += segment.mass * noise
    return Probe(position=found, runs=1, gain=max(best, 0.0), cost=costs.passing)


def _candidates(posterior: Posterior, current: int | None, pending: Sequence[int]) -> list[int]:
    """Return the positions that are weighed: ends of segments, quantiles with their neighbours, and where one is."""
    found = {segment.high for segment in posterior.segments if segment.mass > NEGLIGIBLE}
    found |= {position for position in (current, *pending) if position is not None and 0 < position < posterior.ceiling}
    wanted = iter(QUANTILES)
    goal = next(wanted, 2.0)
    below = 0.0
    prefix = posterior.prefix
    for segment in posterior.segments:
        low, high = prefix[segment.low], prefix[segment.high]
        while goal <= below + segment.mass:
            target = low + (goal - below) / segment.mass * (high - low)
            middle = bisect_left(prefix, target, segment.low + 1, segment.high)
            found |= {middle, max(middle - 1, 1)}
            goal = next(wanted, 2.0)
        below += segment.mass
    return sorted(found)


def _cells(posterior: Posterior, candidates: list[int]) -> list[_Cell]:
    """Cut the segments at the candidate positions."""
    cells: list[_Cell] = []
    prefix = posterior.prefix
    cuts = iter([*candidates, posterior.size + 1])
    cut = next(cuts)
    for segment in posterior.segments:
        low = segment.low
        scale = segment.mass / (prefix[segment.high] - prefix[segment.low])
        while cut <= segment.low:
            cut = next(cuts)
        while cut < segment.high:
            cells.append(_Cell(cut, scale * (prefix[cut] - prefix[low]), segment))
            low, cut = cut, next(cuts)
        cells.append(_Cell(segment.high, scale * (prefix[segment.high] - prefix[low]), segment))
    return cells


def _weigh(  # noqa: PLR0913 - what a probe depends on
    posterior: Posterior,
    cells: list[_Cell],
    *,
    runs: int,
    costs: Costs,
    current: int | None,
    pending: Sequence[int],
) -> list[Probe]:
    """Return one probe of so many runs for each cell's upper end."""
    shown = {}
    for segment in {cell.segment.passes: cell.segment for cell in cells}.values():
        shown[segment.passes] = _block(posterior, segment, runs, costs)
    worlds = _worlds(cells, pending)
    sums = [0.0] * len(worlds)
    totals = [sum(world) for world in worlds]
    known = spent = seen = 0.0
    probes = []
    for index, cell in enumerate(cells):
        chance, cost_bad = shown[cell.segment.passes]
        seen += cell.mass
        known += cell.mass * entropy(chance)
        spent += cell.mass * cost_bad
        for number, world in enumerate(worlds):
            sums[number] += world[index] * chance
        gain = -known
        for part, total in zip(sums, totals, strict=True):
            if total > NEGLIGIBLE:
                gain += total * entropy(part / total)
        cost = spent + (1 - seen) * runs * costs.passing + (0.0 if cell.high == current else costs.switch)
        probes.append(Probe(position=cell.high, runs=runs, gain=max(gain, 0.0), cost=cost))
    return probes


def _block(posterior: Posterior, segment: Segment, runs: int, costs: Costs) -> tuple[float, float]:
    """Return the chance that a block on a bad version fails, and its expected cost, if the culprit is here."""
    if runs == 1:
        return segment.rate, segment.rate * costs.failing + (1 - segment.rate) * costs.passing
    belief, fails, passes = posterior.belief, posterior.fails, segment.passes
    alive = [belief.pass_all(fails, passes, done) for done in range(runs + 1)]
    failed = 1 - alive[-1]
    return failed, failed * costs.failing + (sum(alive[:-1]) - failed) * costs.passing


def _worlds(cells: list[_Cell], pending: Sequence[int]) -> list[list[float]]:
    """Return, for each outcome of the pending runs, the weight of each cell together with that outcome."""
    told, assumed = pending[-PENDING:], pending[:-PENDING]
    base = [cell.mass for cell in cells]
    for position in assumed:
        base = [
            w * (1 - cell.segment.rate if cell.high <= position else 1.0) for w, cell in zip(base, cells, strict=True)
        ]
    scale = sum(base)
    base = [weight / scale for weight in base]
    worlds = []
    for outcome in product((False, True), repeat=len(told)):
        world = base
        for position, failed in zip(told, outcome, strict=True):
            world = [
                weight * _outcome(cell, position, failed=failed) for weight, cell in zip(world, cells, strict=True)
            ]
        worlds.append(world)
    return worlds


def _outcome(cell: _Cell, position: int, *, failed: bool) -> float:
    """Return the chance of a pending outcome, if the culprit is in the cell."""
    rate = cell.segment.rate if cell.high <= position else 0.0
    return rate if failed else 1 - rate
