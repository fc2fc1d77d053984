"""Whether a throughput left its rolling window: by at least two standard deviations and at least one percent. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from statistics import fmean, stdev
from typing import Final

import msgspec

from harness.history.entries import Entry

SIGMAS: Final = 2.0
SHARE: Final = 0.01
ENOUGH: Final = 5
"""With fewer earlier values a change is shown, is called what it is, and is no news."""
WINDOW_S: Final = 7 * 86400
"""How far the window goes back from the newest entry, in seconds."""


class Trend(StrEnum):
    """What a value is to its window."""

    SLOWER = "slower"
    FASTER = "faster"
    SAME = "as before"
    NO_WINDOW = "no window"


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """A value of output tokens per second against the earlier ones."""

    value: float
    trend: Trend
    mean: float | None = None
    sigma: float | None = None
    """Standard deviation of the sample; ``None`` with fewer than two values."""
    count: int = 0

    @property
    def small(self) -> bool:
        """Whether the window is too small to be believed."""
        return self.count < ENOUGH

    def __str__(self) -> str:
        if self.mean is None or self.sigma is None:
            return f"{self.value:.4g} tok/s, {self.trend} ({self.count} earlier)"
        change = self.value / self.mean - 1
        sigmas = abs(self.value - self.mean) / self.sigma if self.sigma else float("inf")
        small = f"; small sample: {self.count} earlier, {ENOUGH} are needed" if self.small else f" of {self.count}"
        return f"{self.value:.4g} tok/s, {self.trend}: {change:+.1%}, {sigmas:.1f} sigma from {self.mean:.4g}{small}"


def judge_speed(value: float, window: Sequence[float]) -> Speed:
    """Return what a value is to earlier ones, among which it is not."""
    if len(window) < 2:  # noqa: PLR2004 - a deviation needs two
        return Speed(value=value, trend=Trend.NO_WINDOW, count=len(window))
    mean, sigma = fmean(window), stdev(window)
    distance = abs(value - mean)
    left = distance >= SIGMAS * sigma and distance >= SHARE * mean
    trend = (Trend.SLOWER if value < mean else Trend.FASTER) if left else Trend.SAME
    return Speed(value=value, trend=trend, mean=mean, sigma=sigma, count=len(window))


def speed_of(entries: Sequence[Entry]) -> Speed | None:
    """Return what the newest entry's throughput is to those of the window that had the same verdict.

    Entries are of one track and one kind of machine, oldest first. ``None`` where the newest has no throughput.
    """
    newest = entries[-1]
    if newest.tok_s is None:
        return None
    window = [
        entry.tok_s
        for entry in entries[:-1]
        if entry.tok_s is not None and entry.verdict is newest.verdict and newest.at - entry.at <= WINDOW_S
    ]
    return judge_speed(newest.tok_s, window)


def newly_slower(entries: Sequence[Entry]) -> bool:
    """Whether the newest entry is slower, on enough values, and the one before it was not yet."""
    now = speed_of(entries)
    if now is None or now.small or now.trend is not Trend.SLOWER:
        return False
    earlier = [
        index for index, entry in enumerate(entries[:-1]) if entry.tok_s and entry.verdict is entries[-1].verdict
    ]
    before = speed_of(entries[: earlier[-1] + 1])
    return before is None or before.trend is not Trend.SLOWER
