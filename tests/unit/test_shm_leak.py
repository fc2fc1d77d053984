"""The oracle of `shm_leak` on literal records, and whom its cells signal."""

from __future__ import annotations

import pytest

from harness.attempt import FaultRecord
from harness.outcome import VerdictName
from harness.spec import SendSignal
from scenarios.shm_leak import LEAKED, SCENARIO, TRACKER, launch, oracle
from tests.unit.attempts import Said, attempt, fault
from tests.unit.test_plan import MACHINE

HELD = {"psm_b1fb72d1": 251_658_240, "psm_0c95db1e": 251_658_240}
BEFORE: Said = ("fault_now", {"shm": HELD, "family": [], "sockets": ["a", "b", "c"]})
NOTHING_HELD: Said = ("fault_now", {"shm": {}, "family": [], "sockets": []})
KILLED = (fault(2), fault(3))


def after(shm: list[str], *alive: str) -> Said:
    """Return what the program saw in the end."""
    return "after", {"shm": shm, "alive": [{"pid": 9, "ppid": 1, "name": name} for name in alive], "sockets": ["a"]}


@pytest.mark.parametrize(
    ("said", "faults", "verdict", "signature"),
    [
        ((BEFORE, after([*HELD])), KILLED, VerdictName.REPRODUCED, LEAKED),
        ((BEFORE, after(["psm_b1fb72d1"])), KILLED, VerdictName.REPRODUCED, LEAKED),
        ((BEFORE, after([])), KILLED, VerdictName.ABSENT, None),
        ((BEFORE, after([], "python -c from multiprocessing.resource_tracker")), KILLED, VerdictName.ABSENT, None),
        ((BEFORE, after([*HELD], "VLLM::Worker")), KILLED, VerdictName.OTHER_FAILURE, "the engine was not ended"),
        ((BEFORE, after([])), (fault(2, confirmed=False),), VerdictName.OTHER_FAILURE, "the engine was not ended"),
        ((NOTHING_HELD, after([])), KILLED, VerdictName.UNTESTABLE, None),
        ((BEFORE,), KILLED, VerdictName.OTHER_FAILURE, "the engine never came to be ended"),
    ],
)
def test_entries_that_stay_when_everybody_has_gone_are_the_leak(
    said: tuple[Said, ...], faults: tuple[FaultRecord, ...], verdict: VerdictName, signature: str | None
) -> None:
    found = oracle(attempt(SCENARIO.complete({}), *said, faults=faults)).verdict
    assert (found.name, found.signature) == (verdict, signature)


@pytest.mark.parametrize(
    ("victims", "with_tracker", "count"), [("group", 1, 4), ("all_but_tracker", 0, 3), ("script", 0, 1)]
)
def test_the_tracker_is_killed_with_the_group_alone(victims: str, with_tracker: int, count: int) -> None:
    faults = launch(SCENARIO.complete({"victims": victims}), MACHINE).faults
    targets = [one.action.target for one in faults if isinstance(one.action, SendSignal)]
    assert (targets.count(TRACKER), len(targets)) == (with_tracker, count)
