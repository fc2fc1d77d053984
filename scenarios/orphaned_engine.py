"""An engine that outlives its API server: vLLM's EngineCore and workers do not notice that their parent was killed.

Source: vllm#55510 (open), #34643; no release from 0.21 to 0.33 lets the EngineCore watch its parent.
"""

from __future__ import annotations

import re

from harness.attempt import Attempt, FaultRecord, Judgement, Process
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
from scenarios.needs import missing, missing_gpus, missing_vllm

TARGETS = {"core": "VLLM::EngineCore", "worker": "VLLM::Worker"}
ENGINES = {
    "vllm": (*TARGETS.values(),),
    "sglang": ("sglang::scheduler", "sglang::detokenizer"),
}
"""Titles of the processes that an API server has, by stack; SGLang's by its sources, 0.5.11 to 0.5.17."""
SERVERS = {
    "vllm": r".*vllm.*serve|.*vllm\.entrypoints|VLLM::APIServer",
    "sglang": r".*sglang\.launch_server",
}
DEADLINE_S = {"vllm": 240, "sglang": 420}
"""SGLang's first start compiles kernels."""
SURVIVED_S = 10.0
"""An engine process that lives this long after the fault, in seconds, has been orphaned."""


def describe(params: Params) -> Description:
    """A kill is provoked by the outside world; the same with SIGTERM is the control of a killed API server.

    At start it is the killed EngineCore, since SIGTERM is not obeyed then (see `expect`).
    """
    killed_api = {**params, "target": "api", "signal": "KILL"}
    at_start = params["moment"] == "start"
    if (params["target"], params["signal"]) == (("core", "KILL") if at_start else ("api", "TERM")):
        return Description(kind=Kind.PROVOKED, control_of=killed_api)
    return Description(kind=Kind.PROVOKED)


def expect(params: Params, environment: Environment) -> Expectation | None:
    """Only the API server's sudden death goes unnoticed; the others are watched by their parents."""
    del environment
    if params["stack"] == "sglang":
        killed = "every child of SGLang's server asks the kernel to be killed with it (PR_SET_PDEATHSIG, 0.5.11 on)"
        reason = killed if params["signal"] == "KILL" else "SGLang's server ends its children on SIGTERM"
        return Expectation(verdict=VerdictName.ABSENT, reason=reason)
    if params["target"] == "api" and params["signal"] == "KILL":
        return Expectation(
            verdict=VerdictName.REPRODUCED,
            reason="the EngineCore has no parent monitor (vllm#55510)",
            signature="EngineCore",
        )
    if params["target"] == "api" and params["moment"] == "start":
        return Expectation(
            verdict=VerdictName.OTHER_FAILURE,
            reason="vLLM 0.32 swallows a SIGTERM that comes during start-up (see startup_interrupt): its handler raises"
            " KeyboardInterrupt, which zmq_socket_ctx (vllm/utils/network_utils.py) catches and drops. The first"
            " recorded run showed this against the expectation that the server would end",
            signature="not obeyed",
        )
    reasons = {
        "api": "the API server ends its engine on SIGTERM",
        "core": "the API server and the worker both watch the EngineCore",
        "worker": "the executor watches its workers and takes the EngineCore down",
    }
    return Expectation(verdict=VerdictName.ABSENT, reason=reasons[params["target"]])


def requires(params: Params, environment: Environment) -> str | None:
    """VLLM; for the rows of SGLang a GPU and SGLang, whose API server is signalled while it is idle."""
    if params["stack"] == "vllm":
        return missing_vllm(environment)
    if (params["target"], params["moment"]) != ("api", "idle"):
        return "of SGLang only the API server is signalled, while it is idle: target=api, moment=idle"
    return missing_gpus(environment) or missing(environment, "sglang")


def launch(params: Params, environment: Environment) -> Launch:
    """Signal the target when the program says that its moment has come."""
    target = TARGETS.get(params["target"], SERVERS[params["stack"]])
    action = SendSignal(signal=f"SIG{params['signal']}", target=target)
    fault = Fault(name=f"{params['signal'].lower()}_{params['target']}", action=action, at="fault_now")
    seconds = 45 if environment.gpus else 28
    return Launch(
        module="scenarios.programs.orphaned_engine",
        faults=(fault,),
        expected_s=seconds,
        deadline_s=DEADLINE_S[params["stack"]],
    )


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when an engine process lives on although its API server is dead; told from the ledger alone."""
    fault = attempt.faults[0] if attempt.faults else None
    victim = next((process for process in attempt.processes if fault is not None and process.key == fault.key), None)
    if fault is None or victim is None or not _delivered(fault, victim):
        detail = fault.detail if fault is not None else "the program never came to the moment of the fault"
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature="fault not delivered", reasons=(detail,))
        return Judgement(verdict=verdict)
    engine = [process for title in ENGINES[attempt.params["stack"]] for process in attempt.named(title)]
    survivors = [one for one in engine if one.key != fault.key and _survived(attempt, one, fault.attempted_ns)]
    waited = _waited_for_client(attempt, victim, engine, survivors)
    stayed_s = _lived(victim, fault.attempted_ns)
    if _survived(attempt, victim, fault.attempted_ns) and not waited:
        long = f"for {SURVIVED_S:g} s and more" if _ended_alone(attempt, victim) else "until it was ended"
        reason = f"SIG{attempt.params['signal']} was delivered, and {victim.name[:60]} went on {long}"
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature="signal not obeyed", reasons=(reason,))
    elif survivors:
        who = sorted({_kind(process) for process in survivors})
        reasons = tuple(
            f"{p.name} (pid {p.key.pid}) lived {_lived(p, fault.attempted_ns):.1f} s{_held(attempt, p)}"
            for p in survivors
        )
        verdict = Verdict(name=VerdictName.REPRODUCED, signature=f"orphaned {'+'.join(who)}", reasons=reasons)
    else:
        longest = max((_lived(process, fault.attempted_ns) for process in engine), default=0.0)
        reasons = (f"all engine processes had ended {longest:.1f} s after the fault",)
        if waited and stayed_s >= SURVIVED_S:
            reasons += (f"the server ended after {stayed_s:.1f} s, with the client whose answer it had cut off",)
        verdict = Verdict(name=VerdictName.ABSENT, reasons=reasons)
    return Judgement(verdict=verdict)


def _waited_for_client(attempt: Attempt, server: Process, engine: list[Process], survivors: list[Process]) -> bool:
    """Whether a server has obeyed, and then stayed for the client in the middle of an answer, not for its engine.

    vLLM 0.32 ends its engine on SIGTERM and waits for open connections to close. A client that gets its last token in
    time leaves; else it waits for the next one, and the server for it (4 of 5 on two processors).
    """
    stays = attempt.params["target"] == "api" and attempt.params["moment"] == "decode"
    return stays and bool(engine) and not survivors and _ended_alone(attempt, server)


def _delivered(fault: FaultRecord, victim: Process) -> bool:
    """Whether the signal reached its target, which may take longer to obey than its effect is waited for.

    An EngineCore gives its worker five seconds to end, and took six and a half for it all. The ledger keeps the fault
    as its end if it was sent; who ended it then is another question (see `_ended_alone`).
    """
    return fault.confirmed or victim.ended_by == f"fault:{fault.fault}"


def _kind(process: Process) -> str:
    found = re.search(r"::([A-Za-z]+)", process.name)
    return found[1] if found else process.name[:40]


def _held(attempt: Attempt, process: Process) -> str:
    """Return what the process held on GPUs when the aftermath was over; nothing where there is none."""
    aftermath = attempt.mark("aftermath")
    mib = aftermath.data.get("gpu_mib", {}).get(str(process.key.pid)) if aftermath is not None else None
    return f" with {mib} MiB of GPU memory" if mib is not None else ""


def _survived(attempt: Attempt, process: Process, fault_ns: int) -> bool:
    return _lived(process, fault_ns) >= SURVIVED_S or not _ended_alone(attempt, process)


def _ended_alone(attempt: Attempt, process: Process) -> bool:
    """Whether it was gone before anybody was stopped: ``ended_by`` keeps our first signal, which is the fault's.

    A server that ignores SIGTERM and has lost its engine is stopped nine seconds after it.
    """
    return process.died_ns is not None and (attempt.stopped_ns is None or process.died_ns < attempt.stopped_ns)


def _lived(process: Process, fault_ns: int) -> float:
    return float("inf") if process.died_ns is None else max(0.0, (process.died_ns - fault_ns) / 1e9)


def _row(*suites: str, **params: str) -> Row:
    return Row(params=params, suites=frozenset({"full", *suites}))


SCENARIO = Scenario(
    name="orphaned_engine",
    title="Engine processes live on after their API server was killed",
    references=(
        Reference(name="vllm#55510", url="https://github.com/vllm-project/vllm/issues/55510"),
        Reference(name="vllm#34643", url="https://github.com/vllm-project/vllm/issues/34643"),
    ),
    axes=(
        Axis(name="target", values=("api", "core", "worker"), doc="who gets the signal", shown=True),
        Axis(name="signal", values=("KILL", "TERM"), doc="which signal", shown=True),
        Axis(name="moment", values=("idle", "decode", "start"), doc="when", shown=True),
        Axis(name="stack", values=("vllm", "sglang"), doc="whose engine"),
    ),
    rows=(
        _row("laptop", "gpu1", "gpu-full", "rocm", target="api", signal="KILL", moment="idle"),
        _row("laptop", "gpu1", "gpu-full", "rocm", target="api", signal="TERM", moment="idle"),
        _row("gpu-full", target="api", signal="KILL", moment="decode"),
        _row("gpu-full", target="api", signal="TERM", moment="decode"),
        _row("laptop", target="api", signal="KILL", moment="start"),
        _row("laptop", target="core", signal="KILL", moment="start"),
        _row("gpu-full", target="core", signal="KILL", moment="idle"),
        _row(target="worker", signal="KILL", moment="decode"),
        _row(target="worker", signal="KILL", moment="idle"),
        _row(target="core", signal="TERM", moment="idle"),
        _row(target="worker", signal="TERM", moment="idle"),
        _row(target="core", signal="KILL", moment="decode"),
        _row("gpu-full", target="api", signal="KILL", moment="idle", stack="sglang"),
        _row("gpu-full", target="api", signal="TERM", moment="idle", stack="sglang"),
    ),
    describe=describe,
    expect=expect,
    requires=requires,
    launch=launch,
    oracle=oracle,
)
