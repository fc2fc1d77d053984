"""The oracle of `gpu_orphans` on literal records."""

from __future__ import annotations

from typing import Any

import pytest

from harness.attempt import Attempt, Mark
from harness.outcome import VerdictName
from scenarios.gpu_orphans import oracle

SHORT = "Free memory on device"


def cycle(number: int, held_mib: int, *, up: bool = True) -> tuple[str, dict[str, Any]]:
    """Return what the program says after one cycle."""
    return "cycle", {"number": number, "up": up, "held_mib": held_mib, "holders": ["7"] if held_mib else []}


def failed(*words: str) -> tuple[str, dict[str, Any]]:
    """Return what the host found in the words of an engine that did not come up."""
    return "engine_said", {"words": list(words)}


@pytest.mark.parametrize(
    ("marks", "verdict"),
    [
        ([cycle(1, 36000), cycle(2, 72000), failed(SHORT), cycle(3, 72000, up=False)], VerdictName.REPRODUCED),
        ([cycle(1, 0), cycle(2, 0), cycle(3, 0)], VerdictName.ABSENT),
        ([cycle(1, 0), failed(SHORT), cycle(2, 0, up=False)], VerdictName.OTHER_FAILURE),
        ([cycle(1, 36000), failed(), cycle(2, 36000, up=False)], VerdictName.OTHER_FAILURE),
        ([cycle(1, 1500), cycle(2, 1500), cycle(3, 1500)], VerdictName.OTHER_FAILURE),
        ([failed(SHORT), cycle(1, 0, up=False)], VerdictName.OTHER_FAILURE),
        ([], VerdictName.OTHER_FAILURE),
    ],
)
def test_memory_must_be_short_because_ended_engines_hold_it(
    marks: list[tuple[str, dict[str, Any]]], verdict: VerdictName
) -> None:
    attempt = Attempt(
        cell="c", attempt=1, params={}, started_ns=0, end="exited", nonce=True,
        marks=tuple(Mark(name=name, pid=1, t_ns=0, data=data) for name, data in marks),
    )  # fmt: skip
    assert oracle(attempt).verdict.name is verdict
