"""Throughput against a rolling window: two standard deviations and one percent, and small samples said so."""

from __future__ import annotations

import pytest

from harness.history.speed import Trend, judge_speed, newly_slower, speed_of
from tests.unit.history.entries import speeds

STEADY = [100.0, 101.0, 99.0, 100.0, 100.5, 99.5]  # mean 100, standard deviation 0.707


@pytest.mark.parametrize(
    ("value", "window", "trend"),
    [
        (98.5, STEADY, Trend.SLOWER),
        (98.7, STEADY, Trend.SAME),  # 1.3% and 1.84 sigma
        (99.2, [100.0] * 6, Trend.SAME),  # any number of sigma, but 0.8%
        (98.9, [100.0] * 6, Trend.SLOWER),
        (101.5, STEADY, Trend.FASTER),
        (90.0, [100.0, 120.0, 80.0, 110.0, 90.0], Trend.SAME),  # 10%, but 0.6 sigma
        (50.0, [100.0], Trend.NO_WINDOW),
        (50.0, [], Trend.NO_WINDOW),
    ],
)
def test_both_limits_must_be_left(value: float, window: list[float], trend: Trend) -> None:
    assert judge_speed(value, window).trend is trend


def test_a_small_sample_says_so_and_is_no_news() -> None:
    few = speeds([100.0, 101.0, 99.0, 50.0])
    speed = speed_of(few)
    assert speed is not None
    assert (speed.trend, speed.small, speed.count) == (Trend.SLOWER, True, 3)
    assert "small sample: 3 earlier, 5 are needed" in str(speed)
    assert not newly_slower(few)


def test_slower_is_news_once() -> None:
    assert newly_slower(speeds([*STEADY, 80.0]))
    assert not newly_slower(speeds([*STEADY, 80.0, 80.0]))
    assert not newly_slower(speeds([*STEADY, 100.0]))


def test_the_newest_value_is_not_in_its_own_window_and_old_ones_leave_it() -> None:
    speed = speed_of(speeds([10.0, 10.0, *STEADY, 100.0]))
    assert speed is not None
    assert speed.count == 7  # the days of the week before
    assert speed.trend is Trend.SAME


def test_without_a_throughput_nothing_is_judged() -> None:
    from tests.unit.history.entries import entries

    assert speed_of(entries("PPP")) is None
    assert not newly_slower(entries("PPP"))
