"""What Ray says an actor has, and what the engine in it sees: ``CUDA_VISIBLE_DEVICES`` on its way through Ray.

Ray gives its actors numbers of GPUs and writes them into the environment of each. Two settings that frameworks reach
for cut that wire. ``RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES`` leaves the variable as the scheduler set it: every
actor sees all GPUs, and an engine that takes the first one shares it with its neighbour. An actor without GPUs of its
own (the hosts of engines in verl and vLLM) was given an empty list by older Rays, and is again with
``RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=1``: "No CUDA GPUs are available".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.attempt import Attempt, Judgement, Mark
from harness.outcome import Kind, Verdict, VerdictName
from harness.spec import Axis, Description, Environment, Expectation, Launch, Params, Reference, Row, Scenario
from scenarios.needs import missing, release

SHARED: Final = "actors with a GPU each take the same one"
NOTHING: Final = "no GPU reaches an actor that holds none"
ROCR: Final = "RuntimeError: Please use HIP_VISIBLE_DEVICES"
MANAGERS: Final = {"NvidiaGPUAcceleratorManager": "nvidia", "AMDGPUAcceleratorManager": "amd"}
OLD: Final = "2.44.1"
KEEPS_ON_ZERO: Final = (2, 60)
"""Known to keep the variable for actors without GPUs; 2.44.1 is known to empty it. In between it was not tried."""


def describe(params: Params) -> Description:
    """The settings are the caller's; the control is the same cell as Ray does it by itself."""
    kind = Kind.NATIVE if params["selector"] == "rocr" or params["ray"] != "installed" else Kind.PROVOKED
    if _fails(params):
        return Description(kind=kind)
    if params["vendor"] == "amd":
        return Description(kind=Kind.NATIVE, control_of={**params, "selector": "rocr"})
    if params["num_gpus"] == "0":
        failing = {"noset": "false"} if params["ray"] == OLD else {"on_zero": "override"}
        return Description(kind=kind, control_of={**params, **failing})
    if params["num_gpus"] == "1":
        return Description(kind=kind, control_of={**params, "noset": "true"})
    return Description(kind=kind)


def _fails(params: Params) -> bool:
    emptied = params["on_zero"] == "override" or params["ray"] == OLD
    if params["num_gpus"] == "0":
        return emptied and params["noset"] == "false"
    return (params["noset"] == "true" and params["num_gpus"] == "1") or params["selector"] == "rocr"


def expect(params: Params, environment: Environment) -> Expectation | None:
    """By Ray's own code: `set_visible_accelerator_ids` and its accelerator managers."""
    installed = release(environment.packages.get("ray", "0"))
    if params["ray"] == "installed" and params["num_gpus"] == "0" and installed < KEEPS_ON_ZERO:
        return None
    if params["selector"] == "rocr":
        reason = "Ray's manager for AMD refuses ROCR_VISIBLE_DEVICES without HIP_VISIBLE_DEVICES (verl#913)"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=ROCR)
    if not _fails(params):
        reasons = {
            "0": "Ray 2.60 leaves the variable of an actor without GPUs alone (ray#54868)",
            "1": "Ray writes each actor's own number into its environment, through the scheduler's list",
            "0.2": "fractions of one GPU are packed on the same one, as asked for",
        }
        return Expectation(verdict=VerdictName.ABSENT, reason=reasons[params["num_gpus"]])
    if params["num_gpus"] == "0":
        reason = "the list of assigned GPUs is empty, and is written into the environment (ray#54868)"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=NOTHING)
    reason = "with NOSET Ray writes nothing: both see what the scheduler set, and device 0 of both is the same"
    return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=SHARED)


def requires(params: Params, environment: Environment) -> str | None:
    """Ray; an AMD GPU where its manager is asked for, which Ray takes only if it counts one; two GPUs for real ones."""
    if params["vendor"] == "amd" and environment.rocm is None:
        return "Ray uses its manager for AMD only where it counts an AMD GPU; there is no ROCm here"
    if params["device"] == "real" and len(environment.gpus) < 2:  # noqa: PLR2004 - one for each actor
        return f"two actors need two GPUs; there are {len(environment.gpus)}"
    return missing(environment, "ray", *(["torch"] if params["device"] == "real" else []))


def launch(params: Params, environment: Environment) -> Launch:
    """Set the variables as a scheduler would: of eight GPUs the job has the fifth and the sixth."""
    del environment
    own = {"nvidia": "CUDA", "amd": "HIP"}[params["vendor"]]
    selector = "ROCR" if params["selector"] == "rocr" else own
    return Launch(
        module="scenarios.programs.ray_visible_devices",
        env={
            f"{selector}_VISIBLE_DEVICES": "0,1" if params["device"] == "real" else "4,5",
            **({f"RAY_EXPERIMENTAL_NOSET_{own}_VISIBLE_DEVICES": "1"} if params["noset"] == "true" else {}),
            **({"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"} if params["on_zero"] == "override" else {}),
        },
        overlays={"ray": params["ray"]},
        expected_s=6,
        deadline_s=120,
        gpus=2 if params["device"] == "real" else 0,
    )


def oracle(attempt: Attempt) -> Judgement:
    """Compare what Ray assigned with what a process started by the actor found in its environment."""
    host, manager = attempt.mark("host"), attempt.mark("manager")
    effective = {"ray": str(host.data["ray"])} if host and attempt.params.get("ray", "installed") != "installed" else {}
    if manager:
        effective["vendor"] = MANAGERS.get(str(manager.data["manager"]), str(manager.data["manager"]))
    actors = [mark for mark in attempt.marks if mark.name == "actor"]
    return Judgement(verdict=_verdict(attempt, actors), effective=effective)


def _verdict(attempt: Attempt, actors: Sequence[Mark]) -> Verdict:  # noqa: PLR0911 - one case an outcome
    error = attempt.error_text("failed")
    if "Please use HIP_VISIBLE_DEVICES" in error:
        return Verdict(name=VerdictName.REPRODUCED, signature=ROCR, reasons=(error.splitlines()[0],))
    if len(actors) < 2:  # noqa: PLR2004 - the program asks two
        reasons = tuple(error.splitlines()[:2]) or ("the actors never answered",)
        return Verdict(name=VerdictName.OTHER_FAILURE, signature="no answer", reasons=reasons)
    assigned = [mark.data["assigned"] for mark in actors]
    reasons = tuple(f"Ray assigned {mark.data['assigned']}, the child sees {mark.data['child']!r}" for mark in actors)
    if not any(assigned):
        if all(mark.data["child"] for mark in actors):
            return Verdict(name=VerdictName.ABSENT, reasons=reasons)
        return Verdict(name=VerdictName.REPRODUCED, signature=NOTHING, reasons=reasons)
    first = [str(mark.data["child"]).split(",")[0] for mark in actors]
    real = attempt.mark("first_devices")
    if real is not None:
        first = [str(uuid) for uuid in real.data["uuids"]]
        reasons = (*reasons, f"device 0 of the actors: {', '.join(first)}")
    if len(set(first)) < len(first) and assigned[0] != assigned[1]:
        return Verdict(name=VerdictName.REPRODUCED, signature=SHARED, reasons=reasons)
    if all(mark.data["child"] == ",".join(mark.data["assigned"]) for mark in actors):
        return Verdict(name=VerdictName.ABSENT, reasons=reasons)
    return Verdict(name=VerdictName.OTHER_FAILURE, signature="other devices than assigned", reasons=reasons)


def _row(*suites: str, need_gpu: bool = False, **params: str) -> Row:
    untestable = frozenset({"full"}) if need_gpu else frozenset[str]()
    return Row(params=params, suites=frozenset({"full", *suites}), may_be_untestable=untestable)


SCENARIO = Scenario(
    name="ray_visible_devices",
    title="Other GPUs reach an engine than Ray assigned to the actor that holds it",
    references=(
        Reference(name="vllm#14610", url="https://github.com/vllm-project/vllm/issues/14610"),
        Reference(name="vllm#6896", url="https://github.com/vllm-project/vllm/issues/6896"),
        Reference(name="ray#58449", url="https://github.com/ray-project/ray/issues/58449"),
        Reference(name="ray#54868", url="https://github.com/ray-project/ray/issues/54868"),
        Reference(name="verl#913", url="https://github.com/volcengine/verl/issues/913"),
    ),
    axes=(
        Axis(name="num_gpus", values=("1", "0.2", "0"), doc="GPUs that each of two actors asks for", shown=True),
        Axis(name="noset", values=("false", "true"), doc="RAY_EXPERIMENTAL_NOSET_*_VISIBLE_DEVICES", shown=True),
        Axis(name="on_zero", values=("keep", "override"), doc="RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO, for actors with 0"),
        Axis(name="vendor", values=("nvidia", "amd"), doc="whose variable it is about"),
        Axis(name="selector", values=("own", "rocr"), doc="the scheduler sets the vendor's variable, or ROCR_*"),
        Axis(name="device", values=("logical", "real"), doc="numbers alone, or GPUs that are there"),
        Axis(name="ray", values=("installed", OLD), doc="release of Ray", package="ray"),
    ),
    rows=(
        _row("laptop", noset="true"),
        _row("laptop"),
        _row("laptop", num_gpus="0", on_zero="override"),
        _row("laptop", num_gpus="0"),
        _row(num_gpus="0.2"),
        _row(num_gpus="0", ray="2.44.1"),
        _row(num_gpus="0", noset="true", ray="2.44.1"),
        _row("gpu2", need_gpu=True, noset="true", device="real"),
        _row("gpu2", need_gpu=True, device="real"),
        _row("rocm", need_gpu=True, vendor="amd", selector="rocr"),
        _row("rocm", need_gpu=True, vendor="amd"),
    ),
    describe=describe,
    expect=expect,
    requires=requires,
    launch=launch,
    oracle=oracle,
)
