"""Engines that outlive their job keep their GPU memory, until the next job runs out of it (vllm#55510, vllm#39846).

A job that scales down by SIGKILL ends the process that holds the engine; its EngineCore watches no parent and stays.
The same with the whole process group ended, or with an orderly shutdown, leaves nothing behind.
"""

from __future__ import annotations

from harness.attempt import Attempt, Judgement
from harness.outcome import Kind, Verdict, VerdictName
from harness.spec import Axis, Description, Environment, Expectation, Launch, Params, Reference, Row, Scenario
from scenarios.needs import missing_gpus, missing_vllm

SIGNATURE = "next engine finds too little GPU memory"
LEFT_MIB = 512
"""More than this, held by processes of ended engines, is a residue."""


def describe(params: Params) -> Description:
    """A SIGKILL of the host alone is the failing cell; both orderly ways to end are its controls."""
    failing = {"end": "KILL", "cleanup": "none"}
    return Description(kind=Kind.PROVOKED, control_of=None if dict(params) == failing else failing)


def expect(params: Params, environment: Environment) -> Expectation | None:
    """The EngineCore watches nobody; its memory is its own as long as it lives."""
    del environment
    if params["end"] == "KILL" and params["cleanup"] == "none":
        reason = "each EngineCore lives on with 45% of the GPU (no parent monitor, vllm#55510): the third finds 10%"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=SIGNATURE)
    reason = "the EngineCore ends with its host, and the driver takes its memory back within seconds"
    return Expectation(verdict=VerdictName.ABSENT, reason=reason)


def requires(params: Params, environment: Environment) -> str | None:
    """One GPU and vLLM; an orderly exit needs no cleanup."""
    if params["end"] == "exit" and params["cleanup"] != "none":
        return "an orderly exit leaves nothing to a cleanup"
    return missing_gpus(environment) or missing_vllm(environment)


def launch(params: Params, environment: Environment) -> Launch:
    """Run the cycles; nothing is signalled by the supervisor."""
    del params, environment
    return Launch(module="scenarios.programs.gpu_orphans", expected_s=170, deadline_s=540)


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when an engine did not come up for want of memory that processes of ended engines held."""
    cycles = [mark.data for mark in attempt.marks if mark.name == "cycle"]
    up = attempt.mark("engine_up")
    effective = {"vllm": str(up.data["vllm"])} if up is not None else {}
    if not cycles or not cycles[0]["up"]:
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature="the first engine did not come up")
        return Judgement(verdict=verdict, effective=effective)
    reasons = tuple(
        f"after cycle {one['number']}: {one['held_mib']} MiB held by {len(one['holders'])}" for one in cycles
    )
    said = attempt.mark("engine_said")
    short = said.data["words"] if said is not None else []
    if short and max(one["held_mib"] for one in cycles) > LEFT_MIB:
        verdict = Verdict(name=VerdictName.REPRODUCED, signature=SIGNATURE, reasons=(*short, *reasons))
    elif not cycles[-1]["up"]:
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature="an engine did not come up", reasons=reasons)
    elif cycles[-1]["held_mib"] > LEFT_MIB:
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature="memory left, enough for all", reasons=reasons)
    else:
        verdict = Verdict(name=VerdictName.ABSENT, reasons=reasons)
    return Judgement(verdict=verdict, effective=effective)


def _row(**params: str) -> Row:
    return Row(params=params, suites=frozenset({"full", "gpu-full"}))


SCENARIO = Scenario(
    name="gpu_orphans",
    title="Engines that outlive their job hold GPU memory until the next job runs out of it",
    references=(
        Reference(name="vllm#55510", url="https://github.com/vllm-project/vllm/issues/55510"),
        Reference(name="vllm#39846", url="https://github.com/vllm-project/vllm/pull/39846"),
    ),
    axes=(
        Axis(name="end", values=("KILL", "exit"), doc="how the process that holds the engine ends", shown=True),
        Axis(name="cleanup", values=("none", "group"), doc="what else is ended with it", shown=True),
    ),
    rows=(_row(), _row(cleanup="group"), _row(end="exit")),
    describe=describe,
    expect=expect,
    requires=requires,
    launch=launch,
    oracle=oracle,
)
