"""A worker that is slow for longer than a time-out: the engine dies for everybody, although the worker is well again.

The executor waits ``VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS`` (300) for a step. Then the EngineCore takes the missing answer
for a fatal error: "RPC call to execute_model timed out" in its log, `EngineDeadError` for every caller. What made the
worker slow is in neither. Here it is stopped for six seconds.

With two workers vLLM 0.32 makes one slow by itself: the embedding's ``get_masked_input_and_mask`` is compiled in the
first step, ``enforce_eager`` or not, and that took 1.4 seconds on an idle machine with a warm cache, 12 under load. A
time-out of three seconds then ended the engine before anybody was stopped. What is asked here is what a stop does, so
that torch compiles nothing.
"""

from __future__ import annotations

from typing import Final

from harness.attempt import Attempt, Judgement
from harness.outcome import Kind, Verdict, VerdictName
from harness.spec import (
    Axis,
    Description,
    Environment,
    Expectation,
    Fault,
    Launch,
    Params,
    Reference,
    Row,
    Scenario,
    SendSignal,
)
from scenarios.needs import missing_vllm
from scenarios.shm_stall import effective_tp, nobody_stopped

DEAD: Final = "EngineDeadError: RPC call timed out"
TARGETS: Final = {"1": "VLLM::Worker", "2": "VLLM::Worker_TP0"}
STOP_S: Final = 6.0
TIMEOUTS: Final = {"3": "3", "default": "300"}
NO_COMPILING: Final = {"TORCH_COMPILE_DISABLE": "1"}


def describe(params: Params) -> Description:
    """A stop from outside and a time-out that is shorter; a longer one, or no stop, is the control."""
    failing = {**params, "timeout": "3", "stop": "6"}
    return Description(kind=Kind.PROVOKED, control_of=None if failing == params else failing)


def expect(params: Params, environment: Environment) -> Expectation | None:
    """The time-out ends the engine; without it the stop is a delay."""
    del environment
    if params["stop"] == "none":
        return Expectation(verdict=VerdictName.ABSENT, reason="a step takes milliseconds")
    if params["timeout"] == "default":
        return Expectation(
            verdict=VerdictName.ABSENT, reason="the worker answers within 300 seconds, and is waited for"
        )
    reason = "EngineCore treats the TimeoutError of a step as fatal (vllm/v1/executor/multiproc_executor.py)"
    return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=DEAD)


def launch(params: Params, environment: Environment) -> Launch:
    """Stop the worker that answers for all while tokens arrive."""
    del environment
    action = SendSignal(signal="SIGSTOP", target=TARGETS[params["tp"]])
    fault = Fault(name="stop_worker", action=action, at="fault_now", lasts_s=STOP_S)
    timeout = {} if params["timeout"] == "default" else {"VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": params["timeout"]}
    return Launch(
        module="scenarios.programs.stopped_worker",
        env={**NO_COMPILING, **timeout},
        faults=() if params["stop"] == "none" else (fault,),
        expected_s=30,
        deadline_s=240,
        gpus=int(params["tp"]),
    )


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when the caller was told that the engine is dead, and the engine said that a call had timed out."""
    ready, effective = attempt.mark("engine_ready"), effective_tp(attempt)
    if ready is not None:
        seconds = str(ready.data["execute_model_timeout_s"])
        effective["timeout"] = next((name for name, value in TIMEOUTS.items() if value == seconds), seconds)
    return Judgement(verdict=_verdict(attempt), effective=effective)


def _verdict(attempt: Attempt) -> Verdict:
    if (untouched := nobody_stopped(attempt)) is not None:
        return untouched
    answer = attempt.mark("answer")
    if answer is None:
        return Verdict(name=VerdictName.OTHER_FAILURE, signature="no answer")
    kinds, said = attempt.error_types("answer_failed"), answer.data["said"]
    if any(kind.endswith("EngineDeadError") for kind in kinds) and "RPC call to" in said:
        reason = (
            f"the caller saw EngineDeadError after {answer.data['tokens']} tokens; the engine's log: RPC call timed out"
        )
        return Verdict(name=VerdictName.REPRODUCED, signature=DEAD, reasons=(reason,))
    if answer.data["finished"]:
        return Verdict(name=VerdictName.ABSENT, reasons=(f"all {answer.data['tokens']} tokens came",))
    signature = f"the answer failed:{kinds[0].rpartition('.')[2]}" if kinds else "the answer was not finished"
    return Verdict(name=VerdictName.OTHER_FAILURE, signature=signature, reasons=(f"the log said: {said}",))


def _row(*suites: str, **params: str) -> Row:
    return Row(params=params, suites=frozenset({"full", *suites}))


SCENARIO = Scenario(
    name="rpc_timeout",
    title="A worker that is slow for a while costs vLLM the whole engine",
    references=(
        Reference(name="vllm#17965", url="https://github.com/vllm-project/vllm/issues/17965"),
        Reference(name="vllm#40926", url="https://github.com/vllm-project/vllm/issues/40926"),
        Reference(name="vllm#41530", url="https://github.com/vllm-project/vllm/issues/41530"),
        Reference(name="verl#6583", url="https://github.com/volcengine/verl/issues/6583"),
    ),
    axes=(
        Axis(name="timeout", values=("3", "default"), doc="VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", shown=True),
        Axis(name="stop", values=("6", "none"), doc="for how many seconds the worker is stopped", shown=True),
        Axis(name="tp", values=("1", "2"), doc="tensor_parallel_size"),
    ),
    rows=(
        _row("laptop"),
        _row("laptop", timeout="default"),
        _row(stop="none"),
        _row(tp="2"),
        _row(tp="2", timeout="default"),
    ),
    describe=describe,
    expect=expect,
    requires=lambda params, environment: missing_vllm(environment) if params else None,
    launch=launch,
    oracle=oracle,
)
