"""A port that was free when it was picked, and is not when the rendezvous binds it: EADDRINUSE at start-up.

Many launchers ask the kernel for a free port, close the socket, and hand the number to a process that binds it seconds
later. On a busy node somebody else has it by then. vLLM did so for its workers up to 0.27 and meets in a file since
0.28, except with AITER's all-reduce on ROCm; its Ray executor binds first and tells the port afterwards. verl's workers
still pick a number. Here the pickers are the packages' own functions, and the other one is sure to come in between.
"""

from __future__ import annotations

from typing import Final

from harness.attempt import Attempt, Judgement
from harness.outcome import Kind, Verdict, VerdictName
from harness.spec import Axis, Description, Environment, Expectation, Launch, Params, Reference, Row, Scenario
from scenarios.needs import missing, missing_vllm

TAKEN: Final = "DistNetworkError: EADDRINUSE"


def describe(params: Params) -> Description:
    """Somebody takes the port in between; nobody does, or no port is picked, in the controls."""
    failing = {**params, "taker": "stranger"}
    if params["rendezvous"] in {"file", "bound"} or (params["rendezvous"] == "default" and params["aiter"] == "off"):
        failing["rendezvous"] = "tcp"
    return Description(kind=Kind.PROVOKED, control_of=None if failing == params else failing)


def expect(params: Params, environment: Environment) -> Expectation | None:
    """A number is no reservation."""
    del environment
    if params["taker"] == "nobody":
        return Expectation(verdict=VerdictName.ABSENT, reason="the port is still free when it is bound")
    if params["rendezvous"] == "tcp" or params["aiter"] == "on":
        reason = "the picker closes its socket before it gives the number away, and the stranger binds it"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=TAKEN)
    reasons = {
        "file": "they meet in a file with a name of its own; no port is needed",
        "bound": "the port is bound when it becomes known, and the stranger is refused",
        "default": "without AITER vLLM 0.28 and later meet in a file (vllm/v1/executor/multiproc_executor.py)",
    }
    return Expectation(verdict=VerdictName.ABSENT, reason=reasons[params["rendezvous"]])


def requires(params: Params, environment: Environment) -> str | None:
    """The picker's package; ROCm where its rendezvous is asked for."""
    if params["aiter"] == "on" and environment.rocm is None:
        return "vLLM meets over TCP only with AITER's all-reduce, which needs ROCm"
    if params["picker"] == "verl":
        return missing(environment, "torch", "ray")
    return missing_vllm(environment)


def launch(params: Params, environment: Environment) -> Launch:
    """Run the program; verl's picker is that of a pinned release."""
    del environment
    return Launch(
        module="scenarios.programs.port_race",
        env={"VLLM_ROCM_USE_AITER": "1"} if params["aiter"] == "on" else {},
        overlays={"verl": "0.9.1"} if params["picker"] == "verl" else {},
        expected_s=7,
        deadline_s=90,
    )


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when the rendezvous found its port taken, and it was the stranger who had it."""
    picked, stranger = attempt.mark("picked"), attempt.mark("stranger")
    if picked is None:
        return Judgement(verdict=Verdict(name=VerdictName.OTHER_FAILURE, signature="nothing was picked"))
    met = "bound" if picked.data["bound"] else str(picked.data["scheme"])
    effective = {"met": met} if attempt.params["rendezvous"] == "default" else {"rendezvous": met}
    text = attempt.error_text("not_met")
    said = f"the stranger: {stranger.data['said']}" if stranger else "nobody came in between"
    if "EADDRINUSE" in text:
        verdict = Verdict(name=VerdictName.REPRODUCED, signature=TAKEN, reasons=(text.splitlines()[0], said))
    elif attempt.mark("met") is not None:
        verdict = Verdict(name=VerdictName.ABSENT, reasons=(f"they met by {met}", said))
    else:
        kinds = attempt.error_types("not_met")
        signature = f"not met:{kinds[0].rpartition('.')[2]}" if kinds else "not met"
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature=signature, reasons=(text[:300], said))
    return Judgement(verdict=verdict, effective=effective)


def _row(*suites: str, **params: str) -> Row:
    untestable = frozenset({"full"}) if "rocm" in suites else frozenset[str]()
    return Row(params=params, suites=frozenset({"full", *suites}), may_be_untestable=untestable)


SCENARIO = Scenario(
    name="port_race",
    title="A port that was free when it was picked is taken when the rendezvous binds it",
    references=(
        Reference(name="vllm#39015", url="https://github.com/vllm-project/vllm/issues/39015"),
        Reference(name="vllm#43206", url="https://github.com/vllm-project/vllm/issues/43206"),
        Reference(name="vllm#50999", url="https://github.com/vllm-project/vllm/pull/50999"),
        Reference(name="verl#6677", url="https://github.com/volcengine/verl/issues/6677"),
        Reference(name="verl#5889", url="https://github.com/volcengine/verl/issues/5889"),
        Reference(name="NeMo-RL#3350", url="https://github.com/NVIDIA-NeMo/RL/issues/3350"),
        Reference(name="SkyRL#284", url="https://github.com/NovaSky-AI/SkyRL/issues/284"),
    ),
    axes=(
        Axis(name="picker", values=("vllm", "verl"), doc="whose function finds the port", shown=True),
        Axis(
            name="rendezvous",
            values=("tcp", "file", "bound", "default"),
            doc="at a picked port, in a file, at a port that is bound first, or what vLLM's executor chooses",
            shown=True,
        ),
        Axis(name="taker", values=("stranger", "nobody"), doc="who takes the port in between", shown=True),
        Axis(name="aiter", values=("off", "on"), doc="VLLM_ROCM_USE_AITER"),
    ),
    rows=(
        _row("laptop"),
        _row("laptop", taker="nobody"),
        _row(rendezvous="default"),
        _row(rendezvous="file"),
        _row("laptop", rendezvous="bound"),
        _row("laptop", picker="verl"),
        _row("laptop", picker="verl", taker="nobody"),
        _row("rocm", rendezvous="default", aiter="on"),
        _row("rocm", rendezvous="default", aiter="on", taker="nobody"),
    ),
    describe=describe,
    expect=expect,
    requires=requires,
    launch=launch,
    oracle=oracle,
)
