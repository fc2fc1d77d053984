"""The oracles of `shm_stall` and `rpc_timeout` on literal records: a stopped worker, and what the caller hears."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import child
from harness.attempt import FaultRecord, Suspicion
from harness.events import ProcessKey
from harness.outcome import VerdictName
from scenarios import rpc_timeout, shm_stall
from scenarios.programs import stopped_worker
from tests.unit.attempts import Said, attempt, error, fault, process

WORKERS = (process(3, "VLLM::Worker_TP0"), process(4, "VLLM::Worker_TP1"), process(5, "VLLM::Worker_TP1"))
"""Two ranks; the last one is a helper that the second one has forked."""
ALONE = process(3, "VLLM::Worker")
STOPPED = fault(4, "stop_worker1", at_s=0.0, detail="VLLM::Worker_TP1 is stopped")
LATE = fault(4, "stop_worker1", at_s=60.0, detail="VLLM::Worker_TP1 is stopped")
NOT_STOPPED = fault(4, "stop_worker1", confirmed=False, detail="SIGSTOP: no such process")
PROOF = Suspicion(suspicion="stopped", reasons=("pid 4 is stopped",), t_ns=0, keys=(ProcessKey(4, 1),), proved=True)
OTHER_PROOF = Suspicion(suspicion="deadlock", reasons=(), t_ns=0, keys=(ProcessKey(4, 1),), proved=True)


def window(settled: int, tokens: int, *, ended: bool = False) -> Said:
    """Return what had come one second after the stop, and at the end of the window."""
    return "window_over", {"settled": settled, "tokens": tokens, "ended": ended}


def answer(tokens: int, *said: str) -> Said:
    """Return what had come in the end."""
    return "answer", {"tokens": tokens, "finished": tokens == 1900, "said": [*said]}


RING = "No available shared memory broadcast block"
FAILED = error("answer_failed", "vllm.v1.engine.exceptions.EngineDeadError", "EngineCore encountered an issue.")
LOST = "the answer failed:EngineDeadError"
WRONG = error("answer_failed", "builtins.ValueError", "no")


@pytest.mark.parametrize(
    ("said", "faults", "more", "verdict", "signature"),
    [
        ((window(9, 9), answer(1900, RING)), (STOPPED,), {}, VerdictName.REPRODUCED, shm_stall.STALLED),
        ((window(9, 9), answer(9, RING)), (STOPPED,), {}, VerdictName.REPRODUCED, shm_stall.STALLED),
        ((), (STOPPED,), {"end": "hang", "suspicions": (PROOF,)}, VerdictName.REPRODUCED, shm_stall.STALLED),
        ((), (STOPPED,), {"end": "hang", "suspicions": (OTHER_PROOF,)}, VerdictName.OTHER_FAILURE, "no answer"),
        ((window(9, 800), answer(1900)), (STOPPED,), {}, VerdictName.ABSENT, None),
        ((window(9, 1900, ended=True), answer(1900)), (STOPPED,), {}, VerdictName.ABSENT, None),
        ((window(9, 9, ended=True), FAILED, answer(9)), (STOPPED,), {}, VerdictName.OTHER_FAILURE, LOST),
        ((window(9, 9), answer(9)), (NOT_STOPPED,), {}, VerdictName.OTHER_FAILURE, "nobody was stopped"),
        ((window(9, 9), answer(9)), (), {}, VerdictName.OTHER_FAILURE, "nobody was stopped"),
        ((window(9, 1900), answer(1900)), (LATE,), {}, VerdictName.OTHER_FAILURE, "nobody was stopped"),
    ],
)  # fmt: skip
def test_silence_while_the_worker_is_stopped_is_the_stall(
    said: tuple[Said, ...],
    faults: tuple[FaultRecord, ...],
    more: dict[str, Any],
    verdict: VerdictName,
    signature: str | None,
) -> None:
    """Also where the attempt was ended for the hang before the program could say more."""
    params = shm_stall.SCENARIO.complete({})
    found = shm_stall.oracle(attempt(params, *said, faults=faults, processes=WORKERS, **more))
    assert (found.verdict.name, found.verdict.signature) == (verdict, signature)
    assert found.effective == {"tp": "2"}


@pytest.mark.parametrize(
    ("said", "faults", "verdict", "signature"),
    [
        ((FAILED, answer(9, "RPC call to")), (STOPPED,), VerdictName.REPRODUCED, rpc_timeout.DEAD),
        ((FAILED, answer(9)), (STOPPED,), VerdictName.OTHER_FAILURE, LOST),
        ((WRONG, answer(9, "RPC call to")), (STOPPED,), VerdictName.OTHER_FAILURE, "the answer failed:ValueError"),
        ((answer(1900),), (STOPPED,), VerdictName.ABSENT, None),
        ((answer(9),), (STOPPED,), VerdictName.OTHER_FAILURE, "the answer was not finished"),
        ((answer(1900),), (NOT_STOPPED,), VerdictName.OTHER_FAILURE, "nobody was stopped"),
        ((window(9, 1900), answer(1900)), (LATE,), VerdictName.OTHER_FAILURE, "nobody was stopped"),
        ((), (STOPPED,), VerdictName.OTHER_FAILURE, "no answer"),
    ],
)  # fmt: skip
def test_a_dead_engine_after_a_timed_out_call_is_the_failure(
    said: tuple[Said, ...], faults: tuple[FaultRecord, ...], verdict: VerdictName, signature: str | None
) -> None:
    found = rpc_timeout.oracle(attempt(rpc_timeout.SCENARIO.complete({}), *said, faults=faults, processes=(ALONE,)))
    assert (found.verdict.name, found.verdict.signature) == (verdict, signature)
    assert found.effective == {"tp": "1"}


def test_an_engine_that_died_before_the_stop_is_told_apart() -> None:
    """A time-out that no stop has brought about, such as that of a compilation, is not this failure."""
    found = rpc_timeout.oracle(attempt(rpc_timeout.SCENARIO.complete({}), FAILED, answer(0, "RPC call to")))
    assert (found.verdict.name, found.verdict.signature) == (VerdictName.OTHER_FAILURE, "nobody was stopped")
    assert "after 0 tokens, before the stop" in found.verdict.reasons[0]
    assert "EngineDeadError" in found.verdict.reasons[0]


@pytest.mark.parametrize("fault_comes", [True, False])
def test_an_answer_that_dies_before_it_has_begun_is_not_waited_for(
    fault_comes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment of the stop is said only where tokens came; the end is said either way, at once."""
    said = tmp_path / "said.jsonl"
    monkeypatch.setenv(child.PHASES, str(said))
    monkeypatch.chdir(tmp_path)

    async def outputs() -> AsyncIterator[object]:
        if fault_comes:
            yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=[0] * stopped_worker.BEGUN)])
        await asyncio.sleep(0)
        msg = "dead"
        raise ValueError(msg)

    asyncio.run(asyncio.wait_for(stopped_worker.watch(outputs()), 5))
    marks = [word["mark"] for word in map(json.loads, said.read_text().splitlines()) if "mark" in word]
    before = ["fault_now", "window_over"] if fault_comes else []
    assert marks == [*before, "answer_failed", "answer"]


@pytest.mark.parametrize(("seconds", "effective"), [(3, "3"), (300, "default"), (7, "7")])
def test_the_time_out_in_effect_is_read_off_vllm(seconds: int, effective: str) -> None:
    said: Said = ("engine_ready", {"execute_model_timeout_s": seconds})
    assert rpc_timeout.oracle(attempt(rpc_timeout.SCENARIO.complete({}), said)).effective == {"timeout": effective}
