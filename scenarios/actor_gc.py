"""Actors that are collected under their users: verl's worker groups held only weak handles of their workers.

verl before 0.4.0 lets `RayWorkerGroup.spawn` look its workers up by name (`ray.get_actor`). Since Ray 2.31 such a
handle is weak: it does not keep the actor alive. When the group that made the actors goes out of scope, Ray ends them,
and the next call through the spawned group fails with ``ActorDiedError``. verl 0.4.0 passes the handles on.
"""

from __future__ import annotations

from harness.attempt import Attempt, Judgement
from harness.outcome import Kind, Verdict, VerdictName
from harness.spec import Axis, Description, Environment, Expectation, Launch, Params, Reference, Row, Scenario
from scenarios.needs import missing, release

STRONG_SINCE = (0, 4)
DIED = "all references to the actor were removed"


def describe(params: Params) -> Description:
    """The failing cells drop the parent of a default-lifetime group; keeping it is the control of dropping it."""
    if params["keep_parent"] == "true":
        return Description(kind=Kind.NATIVE, control_of={**params, "keep_parent": "false"})
    if params["lifetime"] == "detached":
        return Description(kind=Kind.NATIVE, control_of={**params, "lifetime": "default"})
    if release(params["verl"]) >= STRONG_SINCE:
        return Description(kind=Kind.NATIVE, control_of={**params, "verl": "0.3.0.post1"})
    return Description(kind=Kind.NATIVE)


def expect(params: Params, environment: Environment) -> Expectation | None:
    """Weak handles die with their parent group, once the garbage collector has broken its reference cycle."""
    del environment
    if release(params["verl"]) >= STRONG_SINCE:
        return Expectation(verdict=VerdictName.ABSENT, reason="spawn passes strong handles on since 0.4.0 (verl#1443)")
    if params["keep_parent"] == "true":
        return Expectation(verdict=VerdictName.ABSENT, reason="the parent group holds strong handles")
    if params["lifetime"] == "detached":
        return Expectation(verdict=VerdictName.ABSENT, reason="Ray never collects a detached actor")
    if params["gc"] == "none":
        return None  # the parent stands in a reference cycle: the automatic collection decides when, not the program
    return Expectation(
        verdict=VerdictName.REPRODUCED,
        reason="handles of ray.get_actor are weak (ray#45699), and nothing else holds the actors (verl#1138)",
        signature="ActorDiedError",
    )


def requires(params: Params, environment: Environment) -> str | None:
    """Ray, torch and what verl imports; verl itself comes as an overlay, unless the installed one is asked for."""
    stack = ("ray", "torch", "tensordict", "transformers")
    return missing(environment, *stack, *(("verl",) if params["verl"] == "installed" else ()))


def launch(params: Params, environment: Environment) -> Launch:
    """Run the program with the asked-for releases in front of the installed ones."""
    del environment
    return Launch(
        module="scenarios.programs.actor_gc",
        overlays={"verl": params["verl"], "ray": params["ray"]},
        expected_s=15,
        deadline_s=120,
        gpus=0,
    )


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when Ray says that the actor died because all references were removed.

    Of a call that is running when the parent is dropped the one after it is judged: the first recorded run showed that
    Ray lets an actor that went out of scope finish the tasks it has accepted, so the running call is answered.
    """
    versions = attempt.mark("versions")
    effective = {"verl": str(versions.data["verl"])} if versions else {}
    if "ray" in attempt.effective and versions:
        effective["ray"] = str(versions.data["ray"])
    call = "later_call" if attempt.params["call"] == "in_flight" else "call"
    text = attempt.error_text(f"{call}_failed")
    if DIED in text:
        signature = "ActorDiedError: all references to the actor were removed"
        weak = attempt.mark("handles")
        reasons = ["the call through the spawned group failed: " + text.splitlines()[0]]
        if weak is not None:
            reasons.append(f"handles of the spawned group are weak: {weak.data['weak']}")
        verdict = Verdict(name=VerdictName.REPRODUCED, signature=signature, reasons=tuple(reasons))
    elif text:
        kind = attempt.error_types(f"{call}_failed")[0].rpartition(".")[2]
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature=f"call failed:{kind}", reasons=(text[:400],))
    elif attempt.mark(f"{call}_result") is None:
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature="no call", reasons=("no call was ever made",))
    else:
        verdict = Verdict(name=VerdictName.ABSENT, reasons=("the call through the spawned group was answered",))
    return Judgement(verdict=verdict, effective=effective)


def _row(*suites: str, **params: str) -> Row:
    return Row(params=params, suites=frozenset({"full", *suites}))


SCENARIO = Scenario(
    name="actor_gc",
    title="Ray actors of a verl worker group are collected while the group is still in use",
    references=(
        Reference(name="verl#1138", url="https://github.com/volcengine/verl/pull/1138"),
        Reference(name="verl#1443 (fix)", url="https://github.com/volcengine/verl/pull/1443"),
        Reference(name="ray#45699", url="https://github.com/ray-project/ray/pull/45699"),
    ),
    axes=(
        Axis(
            name="verl",
            values=("0.3.0.post1", "0.2.0.post2", "0.4.0", "0.9.1", "installed"),
            doc="release of verl",
            package="verl",
            shown=True,
        ),
        Axis(name="keep_parent", values=("false", "true"), doc="whether the parent group stays referenced", shown=True),
        Axis(name="gc", values=("collect", "none"), doc="whether the program runs gc.collect() after dropping it"),
        Axis(name="call", values=("idle", "in_flight"), doc="whether a call is running when the parent is dropped"),
        Axis(name="lifetime", values=("default", "detached"), doc="lifetime of the actors"),
        Axis(name="ray", values=("installed",), doc="release of Ray", package="ray"),
    ),
    rows=(
        _row("laptop", "smoke", verl="0.3.0.post1"),
        _row("laptop", "smoke", verl="0.3.0.post1", keep_parent="true"),
        _row("laptop", verl="0.3.0.post1", lifetime="detached"),
        _row("laptop", verl="0.3.0.post1", call="in_flight"),
        _row("laptop", verl="0.3.0.post1", call="in_flight", keep_parent="true"),
        _row(verl="0.2.0.post2"),
        _row(verl="0.2.0.post2", keep_parent="true"),
        _row("laptop", verl="0.4.0"),
        _row("laptop", verl="0.9.1"),
    ),
    describe=describe,
    expect=expect,
    requires=requires,
    launch=launch,
    oracle=oracle,
)
