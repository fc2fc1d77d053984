"""The cells and the oracle of `timeout_retries` on literal records."""

from __future__ import annotations

from typing import Any

import pytest

from harness.attempt import Attempt, FaultRecord, Mark
from harness.outcome import VerdictName
from scenarios.timeout_retries import DUPLICATE, SCENARIO, expect, oracle
from tests.unit.test_plan import MACHINE

TIMEOUT = {"type": "openai.APITimeoutError", "text": "Request timed out."}
GONE = {"type": "openai.APIConnectionError", "text": "Connection error."}
REFUSED = {"type": "openai.BadRequestError", "text": "Request id chatcmpl-crashcart-1 already running."}
ANSWERED: dict[str, Any] = {
    "asked_tokens": 1900, "answered": True, "shown": [], "delivered": 1900, "seconds": 2.3, "swallowed": [],
    "overlapped": True, "healthy": True, "said": [], "generated": 1900,
}  # fmt: skip
HIDDEN = {"swallowed": ["Encountered a timeout exception: ReadTimeout"]}
FAILED: dict[str, Any] = {**ANSWERED, **HIDDEN, "answered": False, "delivered": 0, "shown": [TIMEOUT]}
DEAD: dict[str, Any] = {**FAILED, "shown": [GONE], "healthy": False, "said": [DUPLICATE], "generated": None}


def attempt_of(asked: dict[str, Any] | None, seen: int, *, stopped: bool = True, **params: str) -> Attempt:
    marks = [Mark(name="request_seen", pid=1, t_ns=number, data={"retry": number}) for number in range(seen)]
    if asked is not None:
        marks.append(Mark(name="asked", pid=1, t_ns=9, data=asked))
    fault = FaultRecord(fault="stall_engine", attempted_ns=1, confirmed=stopped, detail="no process matched")
    return Attempt(
        cell="c", attempt=1, params=SCENARIO.complete(params), started_ns=0, end="exited", nonce=True,
        marks=tuple(marks), faults=(fault,) if params.get("trigger") == "stall" else (),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "seen", "verdict", "signature"),
    [
        (FAILED, 3, VerdictName.REPRODUCED, "APITimeoutError after 3 attempts"),
        ({**ANSWERED, **HIDDEN}, 2, VerdictName.REPRODUCED, "answered after 2 attempts"),
        (DEAD, 2, VerdictName.REPRODUCED, DUPLICATE),
        ({**FAILED, "shown": [REFUSED]}, 2, VerdictName.REPRODUCED, "BadRequestError: Request id already running"),
        ({**FAILED, "swallowed": []}, 1, VerdictName.ABSENT, None),
        ({**DEAD, "said": ["EngineDeadError"]}, 2, VerdictName.OTHER_FAILURE, "not answered:APIConnectionError"),
        ({**ANSWERED, "healthy": False}, 1, VerdictName.OTHER_FAILURE, "server unhealthy"),
        ({**FAILED, "shown": [GONE]}, 1, VerdictName.OTHER_FAILURE, "not answered:APIConnectionError"),
        (ANSWERED, 1, VerdictName.UNTESTABLE, None),
        (None, 0, VerdictName.OTHER_FAILURE, "nothing was asked"),
    ],
    ids=[
        "work done three times", "hidden by a retry", "engine killed", "id refused", "told at once", "died otherwise",
        "answered by a sick server", "refused", "faster than the timeout", "never asked",
    ],
)  # fmt: skip
def test_what_the_caller_and_the_server_saw_gives_the_verdict(
    asked: dict[str, Any] | None, seen: int, verdict: VerdictName, signature: str | None
) -> None:
    judged = oracle(attempt_of(asked, seen)).verdict
    assert judged.name is verdict
    assert (signature or "") in (judged.signature or "")


def test_without_a_timeout_an_answer_is_an_answer() -> None:
    assert oracle(attempt_of(ANSWERED, 1, timeout="none")).verdict.name is VerdictName.ABSENT


def test_an_engine_that_was_not_stopped_proves_nothing() -> None:
    judged = oracle(attempt_of({**ANSWERED, **HIDDEN}, 2, stopped=False, trigger="stall")).verdict
    assert judged.name is VerdictName.UNTESTABLE


def test_requests_that_did_not_overlap_prove_nothing() -> None:
    attempt = attempt_of({**ANSWERED, "overlapped": False}, 0, trigger="twice", request_id="fixed")
    assert oracle(attempt).verdict.name is VerdictName.UNTESTABLE


def test_the_reasons_say_how_often_the_work_was_done() -> None:
    reasons = " ".join(oracle(attempt_of({**FAILED, "generated": 5700}, 3)).verdict.reasons)
    assert "3 requests reached the server" in reasons
    assert "3.00 times" in reasons


def test_every_failing_row_of_a_suite_has_a_control_that_is_expected_to_pass_in_it() -> None:
    for suite in ("laptop", "gpu-full", "rocm", "full"):
        rows = [SCENARIO.complete(row.params) for row in SCENARIO.rows if suite in row.suites]
        passing = [
            SCENARIO.cell_id(control)
            for params in rows
            if (control := SCENARIO.describe(params).control_of) is not None
            and (expectation := expect(params, MACHINE)) is not None
            and expectation.verdict is VerdictName.ABSENT
        ]
        failing = [
            SCENARIO.cell_id(params)
            for params in rows
            if (expectation := expect(params, MACHINE)) is not None and expectation.verdict is VerdictName.REPRODUCED
        ]
        assert [cell for cell in failing if cell not in passing] == [], suite
