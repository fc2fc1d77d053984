"""The oracle of `duplicate_id` on literal records."""

from __future__ import annotations

from typing import Any

import pytest

from harness.attempt import Attempt, Mark
from harness.outcome import VerdictName
from scenarios.duplicate_id import SIGNATURE, oracle

SERVED: dict[str, Any] = {"first": "answered", "second": "answered", "healthy": True, "engine": True, "said": []}
DEAD: dict[str, Any] = {**SERVED, "second": "no answer", "healthy": False, "engine": False, "said": [SIGNATURE]}
RUNNING = {"first_running": True, "engine": True}


@pytest.mark.parametrize(
    ("second", "answers", "verdict"),
    [
        (RUNNING, DEAD, VerdictName.REPRODUCED),
        (RUNNING, SERVED, VerdictName.ABSENT),
        (RUNNING, {**DEAD, "engine": True}, VerdictName.OTHER_FAILURE),
        (RUNNING, {**DEAD, "said": ["EngineDeadError"]}, VerdictName.OTHER_FAILURE),
        (RUNNING, {**SERVED, "healthy": False}, VerdictName.OTHER_FAILURE),
        ({**RUNNING, "first_running": False}, SERVED, VerdictName.UNTESTABLE),
        (None, None, VerdictName.OTHER_FAILURE),
    ],
)
def test_only_the_assertion_and_a_dead_engine_are_the_failure(
    second: dict[str, Any] | None, answers: dict[str, Any] | None, verdict: VerdictName
) -> None:
    marks = [("second_request", second), ("answers", answers)]
    attempt = Attempt(
        cell="c", attempt=1, params={}, started_ns=0, end="exited", nonce=True,
        marks=tuple(Mark(name=name, pid=1, t_ns=0, data=data) for name, data in marks if data is not None),
    )  # fmt: skip
    assert oracle(attempt).verdict.name is verdict
