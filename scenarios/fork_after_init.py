"""A process that has initialised CUDA forks, and its child cannot use the GPU (vllm#12754, vllm#8893, vllm#9469).

A CUDA context does not survive a fork. PyTorch refuses to initialise anew in the child; with ``spawn``, or with a fork
before anything has touched the GPU, the child works.
"""

from __future__ import annotations

from harness.attempt import Attempt, Judgement
from harness.outcome import Kind, Verdict, VerdictName
from harness.spec import Axis, Description, Environment, Expectation, Launch, Params, Reference, Row, Scenario
from scenarios.needs import missing_gpu_torch

TEXT = "Cannot re-initialize CUDA in forked subprocess"


def describe(params: Params) -> Description:
    """The caller forks too late, which is a misuse; spawn, or forking before, is the control."""
    late = {"start": "fork", "initialised": "true"}
    return Description(kind=Kind.PROVOKED, control_of=None if dict(params) == late else late)


def expect(params: Params, environment: Environment) -> Expectation | None:
    """PyTorch's guard against a bad fork (torch/cuda/__init__.py, ``_lazy_init``); on ROCm it is the same code."""
    del environment
    if params["start"] == "fork" and params["initialised"] == "true":
        reason = "torch.cuda._lazy_init refuses in a child forked after it has run in the parent"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=TEXT)
    reason = "the child makes a context of its own: nothing of the parent's is inherited"
    return Expectation(verdict=VerdictName.ABSENT, reason=reason)


def launch(params: Params, environment: Environment) -> Launch:
    """Run the program."""
    del params, environment
    return Launch(module="scenarios.programs.fork_after_init", expected_s=9, deadline_s=120)


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when the child failed with PyTorch's words for it."""
    parent, text = attempt.mark("parent"), attempt.error_text("child_failed")
    effective = {}
    if parent is not None:
        effective = {name: str(parent.data[name]) for name in ("torch", "cuda")}
        effective["initialised"] = "true" if parent.data["initialised"] else "false"
    ended = attempt.mark("child_ended")
    if TEXT in text:
        verdict = Verdict(name=VerdictName.REPRODUCED, signature=TEXT, reasons=(text.splitlines()[0][:200],))
    elif text:
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature="another error", reasons=(text[:200],))
    elif attempt.mark("child_used_device") is None or ended is None or ended.data["code"] != 0:
        code = ended.data["code"] if ended is not None else "unknown"
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature="child failed", reasons=(f"exit code {code}",))
    else:
        verdict = Verdict(name=VerdictName.ABSENT, reasons=("the child used the GPU",))
    return Judgement(verdict=verdict, effective=effective)


def _row(**params: str) -> Row:
    return Row(params=params, suites=frozenset({"full", "gpu-full", "gpu1", "rocm"}))


SCENARIO = Scenario(
    name="fork_after_init",
    title="A child forked after CUDA was initialised cannot use the GPU",
    references=(
        Reference(name="vllm#12754", url="https://github.com/vllm-project/vllm/issues/12754"),
        Reference(name="vllm#8893", url="https://github.com/vllm-project/vllm/issues/8893"),
    ),
    axes=(
        Axis(name="start", values=("fork", "spawn"), doc="how the child is started", shown=True),
        Axis(name="initialised", values=("true", "false"), doc="whether the parent used the GPU before", shown=True),
    ),
    rows=(_row(), _row(start="spawn"), _row(initialised="false")),
    describe=describe,
    expect=expect,
    requires=lambda params, environment: missing_gpu_torch(environment) if params else None,
    launch=launch,
    oracle=oracle,
)
