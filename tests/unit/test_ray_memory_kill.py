"""The oracle of `ray_memory_kill` on literal records: what the caller saw, beside what the kernel told."""

from __future__ import annotations

import pytest

from harness.attempt import Process
from harness.outcome import VerdictName
from scenarios.ray_memory_kill import CRASHED, ENDLESS, SCENARIO, TOLD, oracle
from tests.unit.attempts import Said, attempt, error, process

RUNNING: Said = ("hog_running", {"process": 152})
AGAIN: Said = ("hog_running", {"process": 271})
OOM = error(
    "call_failed", "ray.exceptions.OutOfMemoryError", "1 worker(s) were killed due to the node running low on memory."
)
WAITED = error("call_failed", "ray.exceptions.GetTimeoutError", "Get timed out: some object(s) not ready.")
BROKEN = error("call_failed", "ray.exceptions.WorkerCrashedError", "The worker died unexpectedly while executing this")
KILLED = process(152, "ray::hog", died_s=4, signal="SIGKILL")
KILLED_AGAIN = process(271, "ray::hog", died_s=9, signal="SIGKILL")
BY_US = process(152, "ray::hog", died_s=4, signal="SIGKILL", ended_by="fault:kill_hog")
ENDED_WITH_RAY = process(152, "ray::IDLE", died_s=20)


@pytest.mark.parametrize(
    ("said", "processes", "verdict", "signature"),
    [
        ((RUNNING, OOM), (KILLED,), VerdictName.REPRODUCED, TOLD),
        ((RUNNING, OOM), (ENDED_WITH_RAY,), VerdictName.OTHER_FAILURE, "call failed:OutOfMemoryError"),
        ((RUNNING, OOM), (BY_US,), VerdictName.OTHER_FAILURE, "call failed:OutOfMemoryError"),
        ((RUNNING, AGAIN, WAITED), (KILLED, KILLED_AGAIN), VerdictName.REPRODUCED, ENDLESS),
        ((RUNNING, AGAIN, WAITED), (KILLED,), VerdictName.OTHER_FAILURE, "call failed:GetTimeoutError"),
        ((RUNNING, BROKEN), (BY_US,), VerdictName.REPRODUCED, CRASHED),
        ((RUNNING, BROKEN), (KILLED,), VerdictName.OTHER_FAILURE, "call failed:WorkerCrashedError"),
        ((RUNNING, ("answered", {"mib": 3584})), (ENDED_WITH_RAY,), VerdictName.ABSENT, None),
        ((RUNNING, AGAIN, ("answered", {"mib": 0})), (BY_US,), VerdictName.ABSENT, None),
        ((OOM,), (), VerdictName.UNTESTABLE, None),
        ((("too_little_memory", {}),), (), VerdictName.UNTESTABLE, None),
        ((), (), VerdictName.OTHER_FAILURE, "no call"),
    ],
)
def test_the_error_counts_only_with_the_death_that_belongs_to_it(
    said: tuple[Said, ...], processes: tuple[Process, ...], verdict: VerdictName, signature: str | None
) -> None:
    found = oracle(attempt(SCENARIO.complete({}), *said, processes=processes)).verdict
    assert (found.name, found.signature) == (verdict, signature)
