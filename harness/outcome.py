"""Outcomes of processes, attempts and cells, and the pure rules that combine them."""

from __future__ import annotations

import signal as signals
from collections.abc import Sequence
from enum import StrEnum
from math import sqrt
from typing import Final

import msgspec

Z_95: Final = 1.959963984540054
"""Two-sided 95% quantile of the normal distribution."""


class StatusSource(StrEnum):
    """Where an exit status came from; ``unknown`` is said honestly, a status is never guessed."""

    WAITPID = "waitpid"
    SUBREAPER = "subreaper"
    PIDFD = "pidfd"
    CONNECTOR = "connector"
    ZOMBIE_STAT = "zombie_stat"
    UNKNOWN = "unknown"


class ExitStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a process ended: exactly one of ``exit_code`` and ``signal``, or neither when the source is unknown."""

    exit_code: int | None = None
    signal: str | None = None
    source: StatusSource = StatusSource.UNKNOWN

    @classmethod
    def from_wait_status(cls, raw: int, source: StatusSource) -> ExitStatus:
        """Decode a ``wait(2)`` status word, as waitpid, pidfd info, the connector and stat field 52 give it."""
        number = raw & 0x7F
        if number:
            return cls(signal=signal_name(number), source=source)
        return cls(exit_code=(raw >> 8) & 0xFF, source=source)

    @property
    def known(self) -> bool:
        """Whether the kernel told us how the process ended."""
        return self.source is not StatusSource.UNKNOWN

    def describe(self) -> str:
        """Return ``SIGSEGV``, ``exit 3`` or ``status unknown``."""
        if self.signal is not None:
            return self.signal
        return "status unknown" if self.exit_code is None else f"exit {self.exit_code}"


def signal_name(number: int) -> str:
    """Return the name of a signal; real-time signals without one are ``SIGRTMIN+n``."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signals.SIGRTMIN}" if number > signals.SIGRTMIN else f"SIG{number}"


class Kind(StrEnum):
    """Where the failure of a cell comes from (design.md, section 1)."""

    NATIVE = "native"
    PROVOKED = "provoked"
    INJECTED = "injected"


class VerdictName(StrEnum):
    """The five verdicts, in the order in which attempts of one cell are merged: the first one present wins."""

    REPRODUCED = "reproduced"
    OTHER_FAILURE = "other_failure"
    NO_VERDICT = "no_verdict"
    UNTESTABLE = "untestable"
    ABSENT = "absent"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was concluded about an attempt or a cell, and why."""

    name: VerdictName
    signature: str | None = None
    reasons: tuple[str, ...] = ()


def merge(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of a cell from those of its attempts, by the declared priority.

    Raises:
        ValueError: If there is no attempt: a cell without attempts has no merged verdict.
    """
    if not verdicts:
        msg = "no attempts to merge"
        raise ValueError(msg)
    order = list(VerdictName)
    return min(verdicts, key=lambda verdict: order.index(verdict.name))


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """A reproduction rate's Wilson score interval at 95%."""

    low: float
    high: float


def reproduction_rate(verdicts: Sequence[Verdict]) -> Rate | None:
    """Return the interval over reproduced and absent attempts only; ``None`` when there is none of either.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    hits = sum(verdict.name is VerdictName.REPRODUCED for verdict in verdicts)
    count = hits + sum(verdict.name is VerdictName.ABSENT for verdict in verdicts)
    if not count:
        return None
    share, square = hits / count, Z_95**2
    centre = share + square / (2 * count)
    spread = Z_95 * sqrt(share * (1 - share) / count + square / (4 * count**2))
    scale = 1 + square / count
    return Rate(low=max(0.0, (centre - spread) / scale), high=min(1.0, (centre + spread) / scale))
