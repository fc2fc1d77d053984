"""The oracle of `fork_after_init` on literal records."""

from __future__ import annotations

from typing import Any

import pytest

from harness.attempt import Attempt, Mark
from harness.outcome import VerdictName
from scenarios.fork_after_init import TEXT, oracle

PARENT = ("parent", {"initialised": True, "torch": "2.11.0+cu130", "cuda": "13.0"})
REFUSED = f"{TEXT}. To use CUDA with multiprocessing, you must use the 'spawn' start method"


def error(text: str) -> tuple[str, dict[str, Any]]:
    """Return what the child says of an exception."""
    return "child_failed", {"error": [{"type": "builtins.RuntimeError", "text": text}]}


@pytest.mark.parametrize(
    ("marks", "verdict"),
    [
        ([PARENT, error(REFUSED), ("child_ended", {"code": 0})], VerdictName.REPRODUCED),
        ([PARENT, error("CUDA out of memory"), ("child_ended", {"code": 0})], VerdictName.OTHER_FAILURE),
        ([PARENT, ("child_used_device", {"value": 8.0}), ("child_ended", {"code": 0})], VerdictName.ABSENT),
        ([PARENT, ("child_used_device", {"value": 8.0}), ("child_ended", {"code": -11})], VerdictName.OTHER_FAILURE),
        ([PARENT, ("child_ended", {"code": 0})], VerdictName.OTHER_FAILURE),
        ([], VerdictName.OTHER_FAILURE),
    ],
)
def test_only_the_guard_of_torch_is_the_failure(marks: list[tuple[str, dict[str, Any]]], verdict: VerdictName) -> None:
    attempt = Attempt(
        cell="c", attempt=1, params={}, started_ns=0, end="exited", nonce=True,
        marks=tuple(Mark(name=name, pid=1, t_ns=0, data=data) for name, data in marks),
    )  # fmt: skip
    assert oracle(attempt).verdict.name is verdict
