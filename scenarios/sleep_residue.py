"""An engine that sleeps keeps GPU memory: sleep frees its own pools, and nothing else (vllm#45623, vllm#47654).

vLLM's sleep mode puts weights and KV cache into pools of its allocator (``CuMemAllocator``); level 1 copies the weights
to the host, level 2 drops them, both unmap the pools. What was allocated beside them stays: the CUDA context and loaded
kernels, captured graphs with their pool, NCCL's buffers, and whatever the caller's own code in the worker holds, such
as a buffer for weight synchronisation. A trainer that takes turns with the engine then finds less than it reckons with.
"""

from __future__ import annotations

from typing import Final

from harness.attempt import Attempt, Judgement
from harness.outcome import Kind, Verdict, VerdictName
from harness.spec import Axis, Description, Environment, Expectation, Launch, Params, Reference, Row, Scenario
from scenarios.needs import missing_gpus, missing_vllm

SIGNATURE: Final = "memory stays after sleep"
RESIDUE_MIB: Final = 1024
"""More than this beyond a process that has nothing but a CUDA context is a residue.

An engine of this model held 512 MiB beyond its share of the GPU on an H100, its context and kernels included, and four
graphs of it took 46 MiB; the buffer has twice the limit.
"""
FREED_MIB: Final = 1024
"""A sleep that gives back less than this, of a share of some GiB, has not worked."""


def describe(params: Params) -> Description:
    """A buffer that the caller keeps is the caller's doing; without it, or with it released, is the control."""
    if params["graphs"] != "off":
        return Description(kind=Kind.NATIVE)
    failing = {**params, "keeps": "buffer"}
    return Description(kind=Kind.PROVOKED, control_of=None if dict(params) == failing else failing)


def expect(params: Params, environment: Environment) -> Expectation | None:
    """By the source of vLLM 0.26 (``Worker.sleep``, ``CuMemAllocator.sleep``)."""
    del environment
    if params["keeps"] == "buffer":
        reason = "2 GiB that code in the worker allocated lie in torch's own pool, which no level of sleep unmaps"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=SIGNATURE)
    if params["keeps"] == "released":
        reason = "once the buffer is let go of, CuMemAllocator.sleep returns it: it ends with torch.cuda.empty_cache()"
    elif params["graphs"] == "full":
        reason = "graphs stay (vllm#45623), but four of a tiny model take tens of MiB: 46 on an H100"
    else:
        reason = "weights and KV cache are unmapped; the context and the kernels that stay take some hundred MiB"
    return Expectation(verdict=VerdictName.ABSENT, reason=reason)


def requires(params: Params, environment: Environment) -> str | None:
    """One GPU and vLLM: on the CPU sleep does nothing. A buffer and graphs are not asked for together."""
    if params["graphs"] != "off" and params["keeps"] != "nothing":
        return "graphs=full is about the graphs alone: keeps=nothing"
    return missing_gpus(environment) or missing_vllm(environment)


def launch(params: Params, environment: Environment) -> Launch:
    """Run the program."""
    del params, environment
    return Launch(module="scenarios.programs.sleep_residue", expected_s=60, deadline_s=300)


def oracle(attempt: Attempt) -> Judgement:
    """Compare what the processes of the engine hold asleep with what a bare process holds, both by the driver."""
    engine, memory, woken = attempt.mark("engine"), attempt.mark("memory"), attempt.mark("woken")
    effective = {"vllm": str(engine.data["vllm"]), "graphs": str(engine.data["graphs"])} if engine is not None else {}
    patches = ("a worker extension that keeps a buffer",) if attempt.params["keeps"] != "nothing" else ()
    if memory is None:
        reasons = tuple(attempt.error_text("engine_failed").splitlines()[:2])
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature="engine failed", reasons=reasons)
        return Judgement(verdict=verdict, effective=effective, patches=patches)
    bare, awake, asleep = (memory.data[name] for name in ("bare_mib", "awake_mib", "asleep_mib"))
    if bare is None or awake is None or asleep is None:
        reason = f"the driver does not tell who holds how much: bare {bare}, awake {awake}, asleep {asleep} MiB"
        verdict = Verdict(name=VerdictName.UNTESTABLE, reasons=(reason,))
        return Judgement(verdict=verdict, effective=effective, patches=patches)
    reasons = (
        f"awake {awake} MiB, asleep {asleep} MiB, {asleep - bare} MiB more than a process with a context ({bare} MiB)",
        *((f"woken {woken.data['mib']} MiB",) if woken is not None else ()),
    )
    if awake - asleep < FREED_MIB:
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature="sleep freed too little", reasons=reasons)
    elif asleep - bare > RESIDUE_MIB:
        verdict = Verdict(name=VerdictName.REPRODUCED, signature=SIGNATURE, reasons=reasons)
    elif woken is None or woken.data["same_answer"] is False:
        what = "did not wake up" if woken is None else "gives another answer after it woke up"
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature=f"the engine {what}", reasons=reasons)
    else:
        verdict = Verdict(name=VerdictName.ABSENT, reasons=reasons)
    return Judgement(verdict=verdict, effective=effective, patches=patches)


def _row(**params: str) -> Row:
    return Row(params=params, suites=frozenset({"full", "gpu-full", "rocm"}))


SCENARIO = Scenario(
    name="sleep_residue",
    title="An engine that sleeps keeps GPU memory that its caller counts on",
    references=(
        Reference(name="vllm#45623", url="https://github.com/vllm-project/vllm/pull/45623"),
        Reference(name="vllm#47654", url="https://github.com/vllm-project/vllm/issues/47654"),
        Reference(name="vllm#32714", url="https://github.com/vllm-project/vllm/issues/32714"),
    ),
    axes=(
        Axis(name="level", values=("1", "2"), doc="level of sleep: weights to the host, weights dropped", shown=True),
        Axis(
            name="keeps",
            values=("nothing", "buffer", "released"),
            doc="what the caller's code in the worker allocated beside the engine's pools, and whether it let go of it",
            shown=True,
        ),
        Axis(name="graphs", values=("off", "full"), doc="vLLM's CUDA graphs"),
    ),
    rows=(
        _row(keeps="buffer"),
        _row(),
        _row(keeps="released"),
        _row(level="2", keeps="buffer"),
        _row(level="2"),
        _row(graphs="full"),
    ),
    describe=describe,
    expect=expect,
    requires=requires,
    launch=launch,
    oracle=oracle,
)
