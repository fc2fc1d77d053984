"""A scenario around `tests.programs.behave`, for tests of the pipeline with real processes and no runtime."""

from __future__ import annotations

from harness.attempt import Attempt, Judgement
from harness.outcome import Kind, Verdict, VerdictName
from harness.spec import (
    Axis,
    Description,
    Environment,
    Expectation,
    Fault,
    Launch,
    OnHang,
    Params,
    Reference,
    Row,
    Scenario,
    SendSignal,
    SlowDisk,
)
from tests.programs.behave import BEHAVIOURS


def describe(params: Params) -> Description:
    """Everything but ``healthy`` is a failure, and ``healthy`` the control."""
    control = {"behaviour": "silent"} if params["behaviour"] == "healthy" else None
    return Description(kind=Kind.INJECTED, control_of=control)


def expect(params: Params, environment: Environment) -> Expectation | None:
    """Declare the verdicts that the pipeline's rules give."""
    del environment
    verdicts = {"healthy": VerdictName.ABSENT, "grandchild_segv": VerdictName.REPRODUCED}
    verdict = verdicts.get(params["behaviour"], VerdictName.OTHER_FAILURE)
    return Expectation(verdict=verdict, reason="by construction")


def launch(params: Params, environment: Environment) -> Launch:
    """Run the program; ``victim`` declares a fault."""
    del environment
    fault = Fault(name="kill_child", action=SendSignal(signal="SIGKILL", target="/bin/sleep"), at="ready")
    slow = SlowDisk(target=".*behave", bytes_per_s=1 << 30, path="/")
    faults = {"victim": (fault,), "nester": (Fault(name="slow", action=slow, at="ready"),)}.get(params["behaviour"], ())
    overlays = {"six": params["six"]} if params["six"] != "installed" else {}
    return Launch(
        module="tests.programs.behave",
        faults=faults,
        overlays=overlays,
        deadline_s=3 if params["behaviour"] == "stuck" else 60,
        on_hang=OnHang.KILL if params["behaviour"] == "hung" else OnHang.CAPTURE,
        expected_s=1,
    )


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when a process died of SIGSEGV by itself."""
    if attempt.params["oracle"] == "crashes":
        msg = "planned"
        raise LookupError(msg)
    effective = {"oracle": "other"} if attempt.params["oracle"] == "differs" else {}
    dead = [process for process in attempt.processes if process.status and process.status.signal == "SIGSEGV"]
    if dead:
        return Judgement(verdict=Verdict(name=VerdictName.REPRODUCED, signature="SIGSEGV"), effective=effective)
    return Judgement(verdict=Verdict(name=VerdictName.ABSENT), effective=effective)


SCENARIO = Scenario(
    name="toy",
    title="A program that behaves as it is told",
    references=(Reference(name="none", url="https://example.invalid"),),
    axes=(
        Axis(name="behaviour", values=tuple(BEHAVIOURS), doc="what the program does", shown=True),
        Axis(name="oracle", values=("works", "crashes", "differs"), doc="what the oracle does"),
        Axis(name="six", values=("installed",), doc="release of a small package", package="six"),
    ),
    rows=tuple(Row(params={"behaviour": name}, suites=frozenset({"full"})) for name in BEHAVIOURS),
    describe=describe,
    expect=expect,
    requires=lambda params, environment: "told so" if "toy" in environment.without and params else None,
    launch=launch,
    oracle=oracle,
)
