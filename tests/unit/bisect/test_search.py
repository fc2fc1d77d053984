"""The posterior and the choice of the next run, against the same worked out the long way."""

from __future__ import annotations

from itertools import product
from math import isclose
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bisect.policy import Costs, choose, entropy
from harness.bisect.rates import DEFAULT, Belief, Known, Learned
from harness.bisect.search import ContradictionError, Posterior

RUNS = st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=14)


def long_way(size: int, rate: float, runs: list[tuple[int, bool]]) -> list[float]:
    """Return the posterior by Bayes' theorem, one candidate after the other; empty if nothing is possible."""
    weights = []
    for culprit in range(1, size + 1):
        weight = 1.0
        for position, failed in runs:
            chance = rate if position >= culprit else 0.0
            weight *= chance if failed else 1 - chance
        weights.append(weight)
    total = sum(weights)
    return [weight / total for weight in weights] if total else []


def posterior_of(size: int, belief: Belief, runs: list[tuple[int, bool]]) -> Posterior:
    posterior = Posterior.start(size, belief)
    for position, failed in runs:
        posterior = posterior.observe(position, fails=failed, passes=not failed)
    return posterior


@given(RUNS, st.sampled_from([0.2, 0.5, 0.9, 1.0]))
def test_the_segments_say_what_bayes_says(runs: list[tuple[int, bool]], rate: float) -> None:
    expected = long_way(12, rate, runs)
    posterior = posterior_of(12, Known(rate), runs)
    if not expected:
        with pytest.raises(ContradictionError):
            _ = posterior.segments
        return
    assert [posterior.probability(i) for i in range(1, 13)] == pytest.approx(expected, abs=1e-12)
    assert posterior.at_most(7) == pytest.approx(sum(expected[:7]))
    assert posterior.best()[1] == pytest.approx(max(expected))


@given(RUNS)
def test_a_learned_rate_is_the_average_over_known_ones(runs: list[tuple[int, bool]]) -> None:
    """A Beta(1, 1) belief is the mean of many known rates, each weighted by how well it explains the runs."""
    grid = [(step + 0.5) / 400 for step in range(400)]
    sums = [0.0] * 12
    for culprit, rate in product(range(1, 13), grid):
        weight = 1.0
        for position, failed in runs:
            chance = rate if position >= culprit else 0.0
            weight *= chance if failed else 1 - chance
        sums[culprit - 1] += weight
    posterior = posterior_of(12, Learned(0.0, 1.0, 1.0), runs)
    assert [posterior.probability(i) for i in range(1, 13)] == pytest.approx(
        [s / sum(sums) for s in sums], rel=0.02, abs=1e-4
    )


@given(RUNS, st.sampled_from([0.2, 0.5, 1.0]))
@settings(max_examples=60)
def test_the_chosen_run_has_the_most_information(runs: list[tuple[int, bool]], rate: float) -> None:
    weights = long_way(12, rate, runs)
    if not weights:
        return

    def gain(position: int) -> float:
        bad = sum(weights[:position])
        return entropy(bad * rate) - bad * entropy(rate)

    probe = choose(posterior_of(12, Known(rate), runs), Costs())
    best = max(gain(position) for position in range(1, 13))
    assert isclose(gain(probe.position), best, abs_tol=1e-9)
    assert isclose(probe.gain, best, abs_tol=1e-9)


def test_a_deterministic_failure_takes_as_many_runs_as_halving() -> None:
    for culprit in range(1, 65):
        posterior, runs = Posterior.start(64, Known(1.0)), 0
        while (named := posterior.settled(0.95)) is None:
            position = choose(posterior, Costs()).position
            posterior = posterior.observe(position, fails=position >= culprit, passes=position < culprit)
            runs += 1
        assert (named, runs) == (culprit, 6)


def test_dear_switching_makes_long_blocks() -> None:
    """With free switching one run is chosen; where a switch costs as much as fifty runs, many at one version."""
    posterior = Posterior.start(100, Known(0.2))
    assert choose(posterior, Costs()).runs == 1
    assert choose(posterior, Costs(switch=50)).runs >= 11


def test_staying_costs_no_switch() -> None:
    posterior = Posterior.start(100, Known(0.2)).observe(40, passes=1)
    assert choose(posterior, Costs(switch=1000), current=40).position == 40


def test_an_expensive_failure_moves_the_choice_towards_the_good_end() -> None:
    """A hang costs its deadline, so that a run is made where it is less likely."""
    posterior = Posterior.start(1000, Known(1.0))
    assert choose(posterior, Costs(failing=20)).position < choose(posterior, Costs()).position


def test_runners_spread() -> None:
    posterior = Posterior.start(1000, Known(1.0))
    pending: list[int] = []
    for _ in range(3):
        pending.append(choose(posterior, Costs(), pending=pending).position)
    assert sorted(pending) == pytest.approx([250, 500, 750], abs=60)


def test_many_pending_runs_are_bounded_work() -> None:
    posterior = Posterior.start(1000, Known(0.5))
    assert 1 <= choose(posterior, Costs(), pending=[500] * 12).position <= 1000


def test_a_known_bad_version_is_not_tested_again_and_again() -> None:
    posterior = Posterior.start(1000, Known(0.3)).observe(10, fails=1)
    assert choose(posterior, Costs()).position < 10


def test_priors_count() -> None:
    posterior = Posterior.start([1, 1, 97, 1], Known(0.5))
    assert posterior.settled(0.95) == 3
    assert posterior.best()[0] == 3
    assert posterior.best()[1] == pytest.approx(0.97)
    assert posterior.entropy() > 0


def test_a_contradiction_is_said() -> None:
    with pytest.raises(ContradictionError, match="impossible at the stated"):
        _ = Posterior.start(5, Known(1.0)).observe(3, fails=1).observe(4, passes=1).segments


def test_the_interval_holds_its_probability() -> None:
    posterior = Posterior.start(100, Known(0.5)).observe(60, fails=1).observe(40, passes=5)
    first, last = posterior.interval(0.9)
    assert posterior.at_most(last) - posterior.at_most(first - 1) >= 0.9
    assert (first, last) == (41, 60)


@pytest.mark.parametrize("bad", [0, 6])
def test_positions_outside_are_refused(bad: int) -> None:
    with pytest.raises(ValueError, match="no position"):
        Posterior.start(5, Known(1.0)).observe(bad, fails=1)


def test_the_stated_posterior_is_true() -> None:
    """500 searches over the stated prior: right as often as said, within four standard errors."""
    random = Random(7)
    stated, right = [], 0
    for _ in range(500):
        rate, culprit = max(DEFAULT.draw(random.random, 0, 0), 0.05), random.randint(1, 32)
        posterior = Posterior.start(32, DEFAULT)
        while (named := posterior.settled(0.9)) is None:
            position = choose(posterior, Costs()).position
            failed = position >= culprit and random.random() < rate
            posterior = posterior.observe(position, fails=failed, passes=not failed)
        stated.append(posterior.probability(named))
        right += named == culprit
    mean = sum(stated) / len(stated)
    assert abs(right / 500 - mean) < 4 * (mean * (1 - mean) / 500) ** 0.5


def test_certain_failures_are_noticed_by_the_learned_rate() -> None:
    assert DEFAULT.fail_next(6, 0) > 0.95
    assert DEFAULT.fail_next(6, 1) < 0.9
    assert DEFAULT.pass_all(0, 0, 1) == pytest.approx(1 - DEFAULT.fail_next(0, 0))


def test_draws_follow_the_belief() -> None:
    random = Random(1)
    draws = [Learned(0.0, 3.0, 2.0).draw(random.random, 1, 4) for _ in range(3000)]
    assert sum(draws) / len(draws) == pytest.approx(4 / 10, abs=0.02)
