"""Shared memory that nobody owns any more: an engine that is killed all at once leaves its ring in /dev/shm.

vLLM's workers and EngineCore share rings in /dev/shm (``psm_*``). Python's resource tracker removes them when the last
process that holds them has gone, also after a SIGKILL; but the tracker is a child of the engine's host, and whatever
kills a whole group (``kill -9 -PGID``, a batch system, the end of a container, the kernel for a cgroup) kills it, too.
Then the memory stays until somebody removes it: with enough of them, a later start fails with ENOSPC.
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

LEAKED: Final = "shared memory is left in /dev/shm"
TRACKER: Final = r".*multiprocessing\.resource_tracker"
SCRIPT: Final = r".*scenarios\.programs\.offline_script"
CORE: Final = "VLLM::EngineCore"
WORKER: Final = "VLLM::Worker"
VICTIMS: Final[dict[str, dict[str, str]]] = {
    "group": {"tracker": TRACKER, "script": SCRIPT, "core": CORE, "worker": WORKER},
    "all_but_tracker": {"script": SCRIPT, "core": CORE, "worker": WORKER},
    "script": {"script": SCRIPT},
}


def describe(params: Params) -> Description:
    """Signals from outside; whatever leaves the tracker alive is a control."""
    failing = {"victims": "group", "signal": "KILL", "handler": "none"}
    return Description(kind=Kind.PROVOKED, control_of=None if failing == dict(params) else failing)


def expect(params: Params, environment: Environment) -> Expectation | None:
    """It depends on the tracker."""
    del environment
    if params["victims"] == "group":
        reason = "nobody is left who knows the names (vllm#51317)"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=LEAKED)
    reasons = {
        "all_but_tracker": "the tracker's pipe closes when the last holder is dead, and it unlinks what was registered",
        "script": "the script's handler lets vLLM shut its engine down, which closes and unlinks the rings",
    }
    return Expectation(verdict=VerdictName.ABSENT, reason=reasons[params["victims"]])


def launch(params: Params, environment: Environment) -> Launch:
    """Signal the victims one right after the other, the tracker first."""
    del environment
    faults = tuple(
        Fault(
            name=f"{params['signal'].lower()}_{who}",
            action=SendSignal(signal=f"SIG{params['signal']}", target=title),
            at="fault_now",
        )
        for who, title in VICTIMS[params["victims"]].items()
    )
    return Launch(module="scenarios.programs.shm_leak", faults=faults, expected_s=25, deadline_s=200)


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when entries that the engine held are there after its last process has gone."""
    before, after = attempt.mark("fault_now"), attempt.mark("after")
    if before is None or after is None:
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature="the engine never came to be ended")
        return Judgement(verdict=verdict)
    if not before.data["shm"]:
        reason = "the engine held nothing in /dev/shm when it was ended"
        return Judgement(verdict=Verdict(name=VerdictName.UNTESTABLE, reasons=(reason,)))
    engine = [one for one in after.data["alive"] if "resource_tracker" not in one["name"]]
    if engine or not all(fault.confirmed for fault in attempt.faults):
        reasons = tuple(f"{one['name']} is alive" for one in engine) or tuple(fault.detail for fault in attempt.faults)
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature="the engine was not ended", reasons=reasons)
        return Judgement(verdict=verdict)
    sockets = f"sockets left: {len(after.data['sockets'])} of {len(before.data['sockets'])}"
    left = {name: int(before.data["shm"][name]) for name in after.data["shm"]}
    if left:
        reason = f"{len(left)} of {len(before.data['shm'])} entries are left, {sum(left.values()) >> 20} MiB"
        verdict = Verdict(name=VerdictName.REPRODUCED, signature=LEAKED, reasons=(reason, sockets))
    else:
        reason = f"all {len(before.data['shm'])} entries were removed"
        verdict = Verdict(name=VerdictName.ABSENT, reasons=(reason, sockets))
    return Judgement(verdict=verdict)


def _row(*suites: str, **params: str) -> Row:
    return Row(params=params, suites=frozenset({"full", *suites}))


SCENARIO = Scenario(
    name="shm_leak",
    title="A vLLM engine that is killed all at once leaves its shared memory behind",
    references=(
        Reference(name="vllm#51317", url="https://github.com/vllm-project/vllm/issues/51317"),
        Reference(name="vllm#8803", url="https://github.com/vllm-project/vllm/issues/8803"),
        Reference(name="vllm#48707", url="https://github.com/vllm-project/vllm/issues/48707"),
    ),
    axes=(
        Axis(name="victims", values=("group", "all_but_tracker", "script"), doc="who gets the signal", shown=True),
        Axis(name="signal", values=("KILL", "TERM"), doc="which signal", shown=True),
        Axis(name="handler", values=("none", "exit"), doc="for SIGTERM in the script: the usual cure is sys.exit"),
    ),
    rows=(
        _row("laptop"),
        _row("laptop", victims="all_but_tracker"),
        _row(victims="script", signal="TERM", handler="exit"),
    ),
    describe=describe,
    expect=expect,
    requires=lambda params, environment: missing_vllm(environment) if params else None,
    launch=launch,
    oracle=oracle,
)
