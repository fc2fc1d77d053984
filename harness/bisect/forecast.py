"""How many runs a search will take, from now on: the engine plays itself against coins drawn from the posterior."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from math import log2
from random import Random
from typing import Final

from harness.bisect.policy import Costs, choose
from harness.bisect.search import ContradictionError, Posterior

TRIALS: Final = 60
LONGEST: Final = 4000
WORK: Final = 2500
"""Simulated runs in one forecast, at most: rare failures get fewer trials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is still to come; costs are in the unit of the costs."""

    runs: float
    """Mean number of runs; where the rate is unknown, rare failures dominate it."""
    runs_p50: int
    runs_p95: int
    switches: float
    cost: float
    cost_p50: float
    cost_p95: float


def forecast(  # noqa: PLR0913 - what it depends on
    posterior: Posterior,
    costs: Costs,
    stop: float,
    *,
    current: int | None = None,
    runners: int = 1,
    trials: int = TRIALS,
    seed: int = 0,
) -> Forecast:
    """Return a forecast from so many simulated searches; with several runners the cost is that of the slowest one.

    A search that would be longer than `LONGEST` counts as that long, so the mean is a lower bound for rare failures.
    """
    random = Random(seed)  # noqa: S311 - a simulation
    played: list[tuple[int, int, float]] = []
    spent = 0
    while len(played) < trials and (spent < WORK or len(played) < 3):  # noqa: PLR2004
        played.append(_play(posterior, costs, stop, current, random.random))
        spent += played[-1][0]
    count = len(played)
    runs = sorted(one[0] for one in played)
    spending = sorted(one[2] for one in played)
    last = min(count - 1, int(0.95 * count))
    return Forecast(
        runs=sum(runs) / count,
        runs_p50=runs[count // 2],
        runs_p95=runs[last],
        switches=sum(one[1] for one in played) / count,
        cost=sum(spending) / count / runners,
        cost_p50=spending[count // 2] / runners,
        cost_p95=spending[last] / runners,
    )


def bound(size: int, rate: float) -> float:
    """Return the least mean number of runs that any method needs to name one of so many candidates (Z-channel)."""
    return log2(size) / (1.0 if rate >= 1 else log2(1 + rate * (1 - rate) ** ((1 - rate) / rate)))


def _play(
    posterior: Posterior, costs: Costs, stop: float, current: int | None, uniform: Callable[[], float]
) -> tuple[int, int, float]:
    """Simulate one search to its end and return its runs, switches and cost."""
    culprit, rate = _world(posterior, uniform)
    runs = switches = 0
    cost = 0.0
    try:
        while runs < LONGEST and posterior.settled(stop) is None:
            probe = choose(posterior, costs, current=current)
            if probe.position != current:
                switches += 1
                cost += costs.switch
            current = probe.position
            for _ in range(probe.runs):
                failed = current >= culprit and uniform() < rate
                runs += 1
                cost += costs.failing if failed else costs.passing
                posterior = posterior.observe(current, fails=failed, passes=not failed)
                if failed:
                    break
    except ContradictionError:  # a rate that rounding made impossible
        pass
    return runs, switches, cost


def _world(posterior: Posterior, uniform: Callable[[], float]) -> tuple[int, float]:
    """Draw a culprit and a rate from the posterior."""
    left = uniform()
    segment = posterior.segments[-1]
    for segment in posterior.segments:
        if left < segment.mass:
            break
        left -= segment.mass
    low, high = posterior.prefix[segment.low], posterior.prefix[segment.high]
    target = low + uniform() * (high - low)
    culprit = bisect_left(posterior.prefix, target, segment.low + 1, segment.high)
    return culprit, posterior.belief.draw(uniform, posterior.fails, segment.passes)
