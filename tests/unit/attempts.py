"""Literal records for tests of oracles: attempts put together from what a program said and what the kernel told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from harness.attempt import Attempt, FaultRecord, Mark, Process
from harness.events import ProcessKey
from harness.outcome import ExitStatus, StatusSource

S = 1_000_000_000
"""One second, in nanoseconds."""
Said = tuple[str, dict[str, Any]]


def process(  # noqa: PLR0913 - the facts of a process
    pid: int,
    name: str,
    *,
    born_s: float = 0.0,
    died_s: float | None = None,
    signal: str | None = None,
    ended_by: str = "",
) -> Process:
    """Return a process with one title; without a signal it ended with 0, without a death it was never seen to end."""
    status = ExitStatus(signal=signal, exit_code=None if signal else 0, source=StatusSource.PIDFD)
    return Process(
        key=ProcessKey(pid, 1), ppid=1, parent=None, names=(name,), claimed_by="parent", born_ns=int(born_s * S),
        died_ns=None if died_s is None else int(died_s * S), status=None if died_s is None else status,
        ended_by=ended_by,
    )  # fmt: skip


def fault(
    pid: int, name: str = "fault", *, at_s: float = 10.0, confirmed: bool = True, detail: str = ""
) -> FaultRecord:
    """Return a fault that was aimed at a process."""
    key = ProcessKey(pid, 1)
    return FaultRecord(fault=name, attempted_ns=int(at_s * S), key=key, confirmed=confirmed, detail=detail)


def error(name: str, kind: str, text: str) -> Said:
    """Return an error mark with a chain of one."""
    return name, {"error": [{"type": kind, "text": text}]}


def attempt(params: Mapping[str, str], *said: Said, **more: object) -> Attempt:
    """Return an attempt in which a program said these marks, one a second, and came to its end."""
    marks = tuple(Mark(name=name, pid=1, t_ns=index * S, data=data) for index, (name, data) in enumerate(said))
    base = Attempt(cell="c", attempt=1, params=params, started_ns=0, marks=marks, end="exited", nonce=True)
    return dataclasses.replace(base, **more)  # type: ignore[arg-type]
