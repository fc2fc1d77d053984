"""Ray's memory monitor ends tasks and actors on a full node; whether the caller hears of it depends on the retries.

The raylet looks at the memory of the node and kills workers with SIGKILL above ``RAY_memory_usage_threshold``. Without
retries the caller gets an `OutOfMemoryError`. With any, kills for memory have a counter of their own, which has no end
(``RAY_task_oom_retries``): a task that never fits is run for ever, and its caller waits. If the kernel is quicker, Ray
sees a connection that broke, and guesses; the ledger has the signal.
"""

from __future__ import annotations

from typing import Final

from harness.attempt import Attempt, Judgement, Process
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
from scenarios.needs import missing

TOLD: Final = "OutOfMemoryError: killed by Ray's memory monitor"
ENDLESS: Final = "killed by Ray's memory monitor and run again, the caller waits"
CRASHED: Final = "SIGKILL from outside, which Ray reports as a broken connection"
HOG: Final = r"ray::(hog|Hog)"
NEEDED_MIB: Final = 8192
AGAIN: Final = 2
"""So many kills are a task that is run again and again."""


def describe(params: Params) -> Description:
    """A node that is full is provoked; the signal of the kernel's killer is ours, and so injected."""
    if params["killer"] == "kernel":
        twin = {**params, "retries": "0"}
        return Description(kind=Kind.INJECTED, control_of=twin if params["retries"] != "0" else None)
    twin = {**params, "threshold": "low"}
    return Description(kind=Kind.PROVOKED, control_of=twin if params["threshold"] == "default" else None)


def expect(params: Params, environment: Environment) -> Expectation | None:
    """By the rules of Ray's monitor and of its retries."""
    del environment
    if params["killer"] == "kernel":
        if params["retries"] != "0":
            reason = "the signal comes once, and Ray runs the task again"
            return Expectation(verdict=VerdictName.ABSENT, reason=reason)
        reason = "the raylet sees the worker's connection break and does not know the signal"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=CRASHED)
    if params["threshold"] == "default":
        reason = "the same memory is taken, below the threshold of 95%"
        return Expectation(verdict=VerdictName.ABSENT, reason=reason)
    if params["retries"] == "0":
        reason = "the raylet kills the worker that can be run again least expensively; there is only this one"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=TOLD)
    reason = "kills for memory are retried without end as soon as a task may be retried at all (task_oom_retries = -1)"
    return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=ENDLESS)


def requires(params: Params, environment: Environment) -> str | None:
    """Ray, and memory to spare where it is taken."""
    if params["killer"] == "monitor" and environment.memory_mib < NEEDED_MIB:
        return f"the hog needs a machine with {NEEDED_MIB} MiB of memory; this one has {environment.memory_mib}"
    return missing(environment, "ray")


def launch(params: Params, environment: Environment) -> Launch:
    """The kernel's stand-in kills the worker once it is running the task."""
    del environment
    fault = Fault(name="kill_hog", action=SendSignal(signal="SIGKILL", target=HOG), at="hog_running")
    return Launch(
        module="scenarios.programs.ray_memory_kill",
        faults=(fault,) if params["killer"] == "kernel" else (),
        expected_s=10,
        deadline_s=120,
        gpus=0,
    )


def oracle(attempt: Attempt) -> Judgement:
    """Judge what the caller was told, beside what the kernel told of the workers."""
    return Judgement(verdict=_verdict(attempt))


def _verdict(attempt: Attempt) -> Verdict:  # noqa: PLR0911 - one case an outcome
    if attempt.mark("too_little_memory") is not None:
        reason = "too little memory is free on this machine now"
        return Verdict(name=VerdictName.UNTESTABLE, reasons=(reason,))
    hogs = [int(mark.data["process"]) for mark in attempt.marks if mark.name == "hog_running"]
    killed = [process for process in attempt.processes if process.key.pid in hogs and _killed(process)]
    by_us = [process for process in killed if process.ended_by.startswith("fault:")]
    seen = f"it was run {len(hogs)} times; workers that died of SIGKILL: {len(killed)}"
    if attempt.mark("answered") is not None:
        return Verdict(name=VerdictName.ABSENT, reasons=("the call was answered", seen))
    kinds, text = attempt.error_types("call_failed"), attempt.error_text("call_failed")
    if not kinds:
        return Verdict(name=VerdictName.OTHER_FAILURE, signature="no call", reasons=(seen,))
    kind = kinds[0].rpartition(".")[2]
    reasons = (f"the caller saw {kind}: {text.splitlines()[0][:300] if text else ''}", seen)
    if kind == "OutOfMemoryError" and not hogs:
        reason = "others took the memory: the node was full before the task ran"
        return Verdict(name=VerdictName.UNTESTABLE, reasons=(reason, *reasons))
    if kind == "OutOfMemoryError" and killed and not by_us:
        return Verdict(name=VerdictName.REPRODUCED, signature=TOLD, reasons=reasons)
    if kind == "GetTimeoutError" and len(killed) >= AGAIN and not by_us:
        return Verdict(name=VerdictName.REPRODUCED, signature=ENDLESS, reasons=reasons)
    if kind in {"WorkerCrashedError", "ActorDiedError"} and by_us:
        return Verdict(name=VerdictName.REPRODUCED, signature=CRASHED, reasons=reasons)
    return Verdict(name=VerdictName.OTHER_FAILURE, signature=f"call failed:{kind}", reasons=reasons)


def _killed(process: Process) -> bool:
    ours = process.ended_by.startswith("stop:")
    return process.status is not None and process.status.signal == "SIGKILL" and not ours


def _row(*suites: str, **params: str) -> Row:
    return Row(params=params, suites=frozenset({"full", *suites}))


SCENARIO = Scenario(
    name="ray_memory_kill",
    title="Ray ends a task on a full node, and runs it again for ever without a word to the caller",
    references=(
        Reference(name="OpenRLHF#970", url="https://github.com/OpenRLHF/OpenRLHF/issues/970"),
        Reference(name="verl-agent#52", url="https://github.com/langfengQ/verl-agent/issues/52"),
        Reference(name="DeepResearcher#13", url="https://github.com/GAIR-NLP/DeepResearcher/issues/13"),
        Reference(
            name="Ray, out-of-memory prevention",
            url="https://docs.ray.io/en/latest/ray-core/scheduling/ray-oom-prevention.html",
        ),
    ),
    axes=(
        Axis(name="unit", values=("task", "actor"), doc="what takes the memory", shown=True),
        Axis(name="threshold", values=("low", "default"), doc="RAY_memory_usage_threshold, or Ray's 95%", shown=True),
        Axis(name="retries", values=("0", "3"), doc="max_retries of the task, max_restarts of the actor", shown=True),
        Axis(name="killer", values=("monitor", "kernel"), doc="Ray, or a SIGKILL as the kernel's killer sends it"),
    ),
    rows=(
        _row("laptop"),
        _row("laptop", threshold="default"),
        _row(threshold="default", killer="kernel"),
        _row(threshold="default", killer="kernel", retries="3"),
        _row(retries="3"),
        _row(retries="3", threshold="default"),
        _row(unit="actor"),
        _row(unit="actor", threshold="default"),
        _row(unit="actor", threshold="default", killer="kernel"),
        _row(unit="actor", threshold="default", killer="kernel", retries="3"),
    ),
    describe=describe,
    expect=expect,
    requires=requires,
    launch=launch,
    oracle=oracle,
)
