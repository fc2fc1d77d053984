"""A signal while vLLM's engine starts: not obeyed, or obeyed by the host alone.

The API server turns SIGTERM into a KeyboardInterrupt. During start-up that is raised inside ``zmq_socket_ctx``
(vllm/utils/network_utils.py), which catches it for its own purposes and drops it: the server comes up and serves.
Ctrl-C in a script with an engine of its own takes the same way; that of a server does not, since asyncio counts it,
too. SIGTERM ends a script at once, and nobody tells the engine, which has no eye on its parent (see orphaned_engine); a
handler that calls ``sys.exit`` cures that.
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
from scenarios.needs import missing_vllm

CORE: Final = "VLLM::EngineCore"
WORKER: Final = "VLLM::Worker"
HOSTS: Final = {
    "server": r".*vllm.*serve|.*vllm\.entrypoints|VLLM::APIServer",
    "script": r".*scenarios\.programs\.offline_script",
}
SURVIVED_S: Final = 15.0
"""A host that lives this long after the signal, in seconds, goes on: one that obeys needs 5 to 11 for its farewells."""
ORPHANED_S: Final = 8.0
"""An engine that lives this long after its host, in seconds, has been left behind."""
NOT_OBEYED: Final = "the signal is not obeyed"
ORPHANED: Final = "orphaned"


def describe(params: Params) -> Description:
    """The signal is the world's. A host that is up, and asked in the way that it listens to, is the control."""
    if params["handler"] == "exit":
        return Description(kind=Kind.PROVOKED, control_of={**params, "handler": "none"})
    if params["host"] == "server" and params["signal"] == "INT":
        return Description(kind=Kind.PROVOKED, control_of={**params, "signal": "TERM", "moment": "start"})
    if not _ends_in_order(params):
        return Description(kind=Kind.PROVOKED)
    return Description(kind=Kind.PROVOKED, control_of={**params, "moment": "start"})


def _ends_in_order(params: Params) -> bool:
    return params["moment"] == "ready" and (params["host"] == "server" or params["signal"] == "INT")


def expect(params: Params, environment: Environment) -> Expectation | None:
    """By vLLM's own code, and what Python does with a signal that nobody handles."""
    del environment
    if params["handler"] == "exit":
        reason = "a handler that calls sys.exit raises SystemExit, which nobody drops and which lets vLLM clean up"
        return Expectation(verdict=VerdictName.ABSENT, reason=reason)
    if _ends_in_order(params):
        reason = "once the engine is up, the interrupt arrives in code that ends the engine first"
        return Expectation(verdict=VerdictName.ABSENT, reason=reason)
    if params["host"] == "server" and params["signal"] == "INT":
        reason = (
            "asyncio's runner counts a SIGINT itself and raises KeyboardInterrupt once the main task has ended. The"
            " first recorded run showed this against the expectation that it would be dropped like a SIGTERM"
        )
        return Expectation(verdict=VerdictName.ABSENT, reason=reason)
    if params["host"] == "script" and params["signal"] == "TERM":
        reason = "SIGTERM ends a script without a handler at once; the engine has no parent monitor (vllm#55510)"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=ORPHANED)
    reason = "the KeyboardInterrupt is raised inside zmq_socket_ctx, which drops it (vllm#44751)"
    return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=NOT_OBEYED)


def launch(params: Params, environment: Environment) -> Launch:
    """Signal the host when the program says that its moment has come."""
    seconds = 45 if environment.gpus else 25
    action = SendSignal(signal=f"SIG{params['signal']}", target=HOSTS[params["host"]])
    fault = Fault(name=f"{params['signal'].lower()}_{params['host']}", action=action, at="fault_now")
    return Launch(module="scenarios.programs.startup_interrupt", faults=(fault,), expected_s=seconds, deadline_s=200)


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when the host goes on, or its engine without it; told from the ledger alone."""
    fault = attempt.faults[0] if attempt.faults else None
    victim = next((one for one in attempt.processes if fault is not None and one.key == fault.key), None)
    if fault is None or victim is None:
        detail = fault.detail if fault is not None else "the program never came to the moment of the signal"
        return Judgement(
            verdict=Verdict(name=VerdictName.OTHER_FAILURE, signature="no signal was sent", reasons=(detail,))
        )
    engine = [one for one in attempt.processes if one.was(CORE) or one.was(WORKER)]
    aftermath = attempt.mark("aftermath")
    came_up = aftermath is not None and aftermath.data["came_up"] and attempt.params["moment"] == "start"
    if came_up or _lived(victim, fault.attempted_ns) >= SURVIVED_S:
        how = "its engine came up" if came_up else f"it lived {SURVIVED_S:g} s and more"
        reason = f"{victim.name[:60]} got SIG{attempt.params['signal']}, and {how}"
        verdict = Verdict(name=VerdictName.REPRODUCED, signature=NOT_OBEYED, reasons=(reason,))
    elif survivors := [one for one in engine if _lived(one, victim.died_ns or 0) >= ORPHANED_S]:
        who = "+".join(sorted({"EngineCore" if one.was(CORE) else "Worker" for one in survivors}))
        reasons = tuple(f"{one.name.strip()} (pid {one.key.pid}) outlived its host" for one in survivors)
        verdict = Verdict(name=VerdictName.REPRODUCED, signature=f"{ORPHANED} {who}", reasons=reasons)
    else:
        longest = max((_lived(one, fault.attempted_ns) for one in [victim, *engine]), default=0.0)
        reason = f"the host and its engine had ended {longest:.1f} s after the signal"
        verdict = Verdict(name=VerdictName.ABSENT, reasons=(reason,))
    return Judgement(verdict=verdict)


def _lived(process: Process, since_ns: int) -> float:
    """Return for how long a process lived after a moment, in seconds; one that we ended lived on."""
    if process.died_ns is None or process.ended_by.startswith("stop:"):
        return float("inf")
    return max(0.0, (process.died_ns - since_ns) / 1e9)


def _row(*suites: str, **params: str) -> Row:
    return Row(params=params, suites=frozenset({"full", *suites}))


SCENARIO = Scenario(
    name="startup_interrupt",
    title="A signal while vLLM's engine starts is not obeyed, or leaves the engine behind",
    references=(
        Reference(name="vllm#44751", url="https://github.com/vllm-project/vllm/issues/44751"),
        Reference(name="vllm#32116", url="https://github.com/vllm-project/vllm/issues/32116"),
        Reference(name="vllm#55510", url="https://github.com/vllm-project/vllm/issues/55510"),
    ),
    axes=(
        Axis(name="host", values=("server", "script"), doc="vLLM's OpenAI server, or a script with LLM", shown=True),
        Axis(name="signal", values=("TERM", "INT"), doc="which signal", shown=True),
        Axis(name="handler", values=("none", "exit"), doc="for SIGTERM in the script: the usual cure is sys.exit"),
        Axis(name="moment", values=("start", "ready"), doc="while the engine starts, or when it is up", shown=True),
    ),
    rows=(
        _row("laptop", "gpu-full"),
        _row("laptop", "gpu-full", moment="ready"),
        _row(signal="INT"),
        _row(signal="INT", moment="ready"),
        _row(host="script", signal="INT"),
        _row(host="script", signal="INT", moment="ready"),
        _row("gpu-full", host="script", signal="TERM"),
        _row("gpu-full", host="script", signal="TERM", handler="exit"),
        _row("gpu-full", host="script", signal="TERM", moment="ready"),
        _row("gpu-full", host="script", signal="TERM", moment="ready", handler="exit"),
    ),
    describe=describe,
    expect=expect,
    requires=lambda params, environment: missing_vllm(environment) if params else None,
    launch=launch,
    oracle=oracle,
)
