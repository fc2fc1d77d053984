"""One of two workers stops, and the engine waits: no error, no time-out for minutes, only a line in a log.

vLLM's EngineCore speaks with its workers through a ring in shared memory. When one worker no longer reads it (stopped,
swapped out, stuck in a driver), the other one waits in the next collective and the EngineCore in the ring. After a
minute it logs "No available shared memory broadcast block found", which names nobody; the caller hears nothing until
``VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS`` (300) have passed. The process table shows it at once: one process is in state T.
"""

from __future__ import annotations

import re
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

STALLED: Final = "one stopped worker stalls the engine in silence"
TARGETS: Final = {"worker1": "VLLM::Worker_TP1", "worker0": "VLLM::Worker_TP0", "core": "VLLM::EngineCore"}
WORKERS: Final = "VLLM::Worker"
SHORT_S: Final = 2.0
WARN_S: Final = 3
"""When the ring complains, in seconds; a minute is vLLM's own."""


def describe(params: Params) -> Description:
    """A stop from outside; one that is short, or that never comes, is the control."""
    failing = {**params, "stop": "long"}
    return Description(kind=Kind.PROVOKED, control_of=None if failing == params else failing)


def expect(params: Params, environment: Environment) -> Expectation | None:
    """Nobody watches a worker that is alive; a short stop only delays."""
    del environment
    if params["stop"] != "long":
        reason = "the ring has no time-out of its own, so that a stop that ends is a delay"
        return Expectation(verdict=VerdictName.ABSENT, reason=reason)
    reason = "a stopped process is alive to every monitor of vLLM, and its peers wait for it (vllm#27313)"
    return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=STALLED)


def launch(params: Params, environment: Environment) -> Launch:
    """Stop the target while tokens arrive; a long stop ends when the program has seen enough."""
    del environment
    action = SendSignal(signal="SIGSTOP", target=TARGETS[params["target"]])
    long = params["stop"] == "long"
    fault = Fault(
        name=f"stop_{params['target']}",
        action=action,
        at="fault_now",
        until="window_over" if long else None,
        lasts_s=None if long else SHORT_S,
    )
    return Launch(
        module="scenarios.programs.stopped_worker",
        env={"VLLM_RINGBUFFER_WARNING_INTERVAL": str(WARN_S)},
        faults=() if params["stop"] == "none" else (fault,),
        expected_s=45,
        deadline_s=240,
        gpus=int(params["tp"]),
    )


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when no token came while the worker was stopped, and the caller heard of no error."""
    return Judgement(verdict=_verdict(attempt), effective=effective_tp(attempt))


def effective_tp(attempt: Attempt) -> dict[str, str]:
    """Read the size of the tensor-parallel group off the workers' titles.

    Not off their number: helpers that a worker forks bear its title, too. A group of one has no rank in it.
    """
    titles = [title for process in attempt.processes for title in process.names if title.startswith(WORKERS)]
    ranks = {rank for title in titles for rank in re.findall(r"_TP(\d+)", title)}
    return {"tp": str(max(1, len(ranks)))} if titles else {}


def nobody_stopped(attempt: Attempt) -> Verdict | None:
    """Return the verdict of an attempt in which nobody was stopped while the answer came, and should have been."""
    fault = attempt.faults[0] if attempt.faults else None
    window, answer = attempt.mark("window_over"), attempt.mark("answer")
    if attempt.params["stop"] == "none":
        return None
    if fault is not None and fault.confirmed:
        if window is None or fault.attempted_ns <= window.t_ns:
            return None
        detail = "the stop came only after the window that it was for"
    elif fault is not None:
        detail = fault.detail
    elif answer is not None:
        kinds, tokens, said = attempt.error_types("answer_failed"), answer.data["tokens"], answer.data["said"]
        detail = f"the answer ended after {tokens} tokens, before the stop: {kinds[:1]}; the log said: {said}"
    else:
        detail = "the program never came to the moment of the stop"
    return Verdict(name=VerdictName.OTHER_FAILURE, signature="nobody was stopped", reasons=(detail,))


def _verdict(attempt: Attempt) -> Verdict:
    fault = attempt.faults[0] if attempt.faults else None
    window, answer = attempt.mark("window_over"), attempt.mark("answer")
    if (untouched := nobody_stopped(attempt)) is not None:
        return untouched
    stopped = [
        doubt for doubt in attempt.suspicions if fault and doubt.suspicion == "stopped" and fault.key in doubt.keys
    ]
    reasons = tuple(line for doubt in stopped for line in doubt.reasons[:1])
    quiet = window is not None and not window.data["ended"] and window.data["settled"] == window.data["tokens"]
    ended_for_it = window is None and attempt.end == "hang" and bool(stopped)
    if quiet or ended_for_it:
        if window is not None:
            reasons = (f"no token came after the {window.data['tokens']}th, and no error", *reasons)
        if answer is not None:
            after = "the answer was finished" if answer.data["finished"] else "the answer was not finished"
            reasons = (*reasons, f"once it went on, {after}", f"the log said: {answer.data['said'] or 'nothing'}")
        return Verdict(name=VerdictName.REPRODUCED, signature=STALLED, reasons=reasons)
    if answer is not None and answer.data["finished"]:
        return Verdict(name=VerdictName.ABSENT, reasons=(f"all {answer.data['tokens']} tokens came",))
    kinds = attempt.error_types("answer_failed")
    signature = f"the answer failed:{kinds[0].rpartition('.')[2]}" if kinds else "no answer"
    return Verdict(name=VerdictName.OTHER_FAILURE, signature=signature, reasons=reasons)


def _row(*suites: str, **params: str) -> Row:
    return Row(params=params, suites=frozenset({"full", *suites}))


SCENARIO = Scenario(
    name="shm_stall",
    title="One stopped worker stalls a vLLM engine, and nobody says which",
    references=(
        Reference(name="vllm#27313", url="https://github.com/vllm-project/vllm/issues/27313"),
        Reference(name="vllm#46611", url="https://github.com/vllm-project/vllm/issues/46611"),
        Reference(name="vllm-ascend#3717", url="https://github.com/vllm-project/vllm-ascend/issues/3717"),
    ),
    axes=(
        Axis(name="target", values=("worker1", "worker0", "core"), doc="who is stopped", shown=True),
        Axis(name="stop", values=("long", "short", "none"), doc="12 seconds, 2 seconds, not at all", shown=True),
        Axis(name="tp", values=("2",), doc="tensor_parallel_size"),
    ),
    rows=(
        _row(),
        _row(stop="short"),
        _row(stop="none"),
        _row(target="worker0"),
        _row(target="worker0", stop="short"),
        _row(target="core"),
        _row(target="core", stop="short"),
    ),
    describe=describe,
    expect=expect,
    requires=lambda params, environment: missing_vllm(environment) if params else None,
    launch=launch,
    oracle=oracle,
)
