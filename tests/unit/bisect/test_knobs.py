"""The smallest set of knobs in fake worlds, where the failure shows in only some of the runs."""

from __future__ import annotations

from random import Random

import pytest

from harness.bisect.knobs import KnobSettings
from tests.unit.bisect.worlds import knobs, search_knobs


@pytest.mark.parametrize("members", [{"k0"}, {"k7"}, {"k15"}, {"k3", "k11"}, {"k0", "k1"}, {"k2", "k9", "k15"}])
@pytest.mark.parametrize("rate", [1.0, 0.4])
def test_the_smallest_set_is_found(members: set[str], rate: float) -> None:
    random = Random(5)
    settings = KnobSettings(knobs=knobs(16))
    conclusion, log = search_knobs(settings, lambda on: members <= on and random.random() < rate)
    assert conclusion.named
    assert set(conclusion.members) == members
    assert all(p <= 0.05 for p in conclusion.p_values)
    assert len(log) < (50 if rate == 1 else 400) * len(members)


def test_searches_are_right_as_often_as_they_say() -> None:
    """100 random worlds at a rate of one in two: hardly one is wrong, and none names a set that does not fail."""
    random = Random(3)
    wrong = 0
    for _ in range(100):
        members = {f"k{i}" for i in random.sample(range(13), random.choice([1, 1, 2]))}

        def fails(on: frozenset[str], needed: frozenset[str] = frozenset(members)) -> bool:
            return needed <= on and random.random() < 0.5

        conclusion, _ = search_knobs(KnobSettings(knobs=knobs(13)), fails)
        wrong += not conclusion.named or set(conclusion.members) != members
        assert not conclusion.named or members <= set(conclusion.members)
    assert wrong <= 4


def test_a_member_that_is_not_needed_is_dropped() -> None:
    """Either of two knobs is enough: one of them is named, and it is confirmed to be needed."""
    conclusion, _ = search_knobs(KnobSettings(knobs=knobs(12)), lambda on: bool(on & {"k2", "k8"}))
    assert conclusion.named
    assert conclusion.members in {("k2",), ("k8",)}


def test_a_passing_configuration_that_fails_is_refused() -> None:
    conclusion, log = search_knobs(KnobSettings(knobs=knobs(12)), lambda _: True)
    assert (conclusion.named, conclusion.reason) == (False, "the passing configuration reproduces the failure")
    assert len(log) == 4


def test_a_failing_configuration_that_passes_is_refused() -> None:
    conclusion, _ = search_knobs(KnobSettings(knobs=knobs(12)), lambda _: False)
    assert "too rare to be searched" in conclusion.reason


def test_the_budget_is_kept() -> None:
    conclusion, log = search_knobs(KnobSettings(knobs=knobs(12), budget_runs=7), lambda on: "k4" in on)
    assert (conclusion.named, len(log)) == (False, 7)
