"""Exit statuses, verdict merge and reproduction rate."""

from __future__ import annotations

import pytest

from harness.outcome import (
    ExitStatus,
    Rate,
    StatusSource,
    Verdict,
    VerdictName,
    merge,
    reproduction_rate,
    signal_name,
)

R, A, F, U, N = (
    VerdictName.REPRODUCED,
    VerdictName.ABSENT,
    VerdictName.OTHER_FAILURE,
    VerdictName.UNTESTABLE,
    VerdictName.NO_VERDICT,
)


@pytest.mark.parametrize(
    ("raw", "code", "signal"),
    [
        (0x0000, 0, None),
        (0x0300, 3, None),
        (0xFF00, 255, None),
        (0x000B, None, "SIGSEGV"),
        (0x008B, None, "SIGSEGV"),
        (0x0009, None, "SIGKILL"),
        (64, None, "SIGRTMAX"),
        (36, None, "SIGRTMIN+2"),
    ],
)
def test_wait_status_is_decoded(raw: int, code: int | None, signal: str | None) -> None:
    """A status word is either an exit code or a signal, with or without a core, never both."""
    status = ExitStatus.from_wait_status(raw, StatusSource.PIDFD)
    assert (status.exit_code, status.signal) == (code, signal)
    assert status.known


def test_unknown_status_claims_nothing() -> None:
    """A status that no source gave has neither code nor signal."""
    status = ExitStatus()
    assert (status.exit_code, status.signal, status.known) == (None, None, False)
    assert status.describe() == "status unknown"


def test_signal_without_name_keeps_its_number() -> None:
    """A number that is no signal is shown as it is."""
    assert signal_name(0) == "SIG0"


@pytest.mark.parametrize(
    ("names", "merged"),
    [
        ([A], A),
        ([A, A, R], R),
        ([A, F], F),
        ([F, R], R),
        ([A, U], U),
        ([U, N], N),
        ([N, F], F),
        ([A, U, N, F, R], R),
        ([A, N], N),
    ],
)
def test_merge_follows_the_declared_priority(names: list[VerdictName], merged: VerdictName) -> None:
    """Reproduced > other_failure > no_verdict > untestable > absent, in whatever order the attempts came."""
    verdicts = [Verdict(name=name) for name in names]
    assert merge(verdicts).name is merged
    assert merge(verdicts[::-1]).name is merged


def test_merge_of_nothing_is_an_error() -> None:
    """A cell that never ran has no merged verdict; the caller has to say so."""
    with pytest.raises(ValueError, match="no attempts"):
        merge([])


@pytest.mark.parametrize(
    ("names", "low", "high"),
    [
        ([R] * 10, 0.7225, 1.0),
        ([A] * 10, 0.0, 0.2775),
        ([R] * 3 + [A] * 7, 0.1078, 0.6032),
        ([R, F, N, U], 0.2065, 1.0),
    ],
)
def test_rate_is_the_wilson_interval(names: list[VerdictName], low: float, high: float) -> None:
    """Known values of the 95% Wilson score interval; other verdicts do not enter it."""
    rate = reproduction_rate([Verdict(name=name) for name in names])
    assert rate is not None
    assert (round(rate.low, 4), round(rate.high, 4)) == (low, high)


@pytest.mark.parametrize("names", [[], [F], [N, U]])
def test_no_rate_without_conclusive_attempts(names: list[VerdictName]) -> None:
    """There is no rate where nothing was reproduced or absent."""
    assert reproduction_rate([Verdict(name=name) for name in names]) is None


def test_rate_is_a_value() -> None:
    """Rates compare by value."""
    assert Rate(low=0.0, high=1.0) == Rate(low=0.0, high=1.0)
