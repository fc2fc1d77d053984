"""The innermost of nested spawned processes dies of a signal before it is ready: vLLM's worker inside a Ray actor.

On ROCm with TP=1, verl forced ``distributed_executor_backend="mp"``: Ray actor → EngineCore → WorkerProc, and the inner
worker died of SIGSEGV before it entered ``worker_main``. Without ROCm the same chain is run for real and the signal is
injected into the inner worker, and only there; such rows are ``injected`` and never count as the native failure.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.attempt import Attempt, Judgement, Process
from harness.judge import CRASHES
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
from scenarios.needs import missing, missing_gpu_torch, missing_vllm

WORKER = "VLLM::Worker"
SPAWNED = r".*multiprocessing\.spawn"
ENGINE_CORE = "VLLM::EngineCore"


def describe(params: Params) -> Description:
    """A cell with an injected signal is ``injected``; its controls are the same cell without it, or mitigated."""
    if params["inject"] == "sigsegv":
        mitigated = params["mitigation"] == "omit_backend" and params["backend"] == "default"
        return Description(kind=Kind.INJECTED, control_of={**params, "backend": "mp"} if mitigated else None)
    twin = {**params, "inject": "sigsegv"}
    if params["backend"] == "mp":
        return Description(kind=Kind.INJECTED, control_of=twin)
    return Description(kind=Kind.NATIVE)


def expect(params: Params, environment: Environment) -> Expectation | None:
    """The signal finds an inner worker wherever one is spawned; without a signal nothing dies on this platform."""
    if params["inject"] == "none":
        if environment.rocm is not None and params["host"] == "ray_actor" and params["backend"] == "mp":
            return Expectation(
                verdict=VerdictName.REPRODUCED,
                reason="ROCm, nested spawn after HIP was initialised (verl#6459; seen on 7.0.2)",
                signature="SIGSEGV",
            )
        return Expectation(verdict=VerdictName.ABSENT, reason="the crash is in the ROCm runtime; none is loaded here")
    if _has_inner_worker(params):
        return Expectation(
            verdict=VerdictName.REPRODUCED,
            reason="the multiprocessing executor spawns an inner worker, which gets the signal before it is ready",
            signature="SIGSEGV",
        )
    return Expectation(
        verdict=VerdictName.ABSENT, reason="the in-process executor spawns no inner worker that could get the signal"
    )


def _has_inner_worker(params: Params) -> bool:
    """Whether the multiprocessing executor is in effect; uni is made effective on the CPU (see the program)."""
    omitted = params["backend"] == "default" and params["mitigation"] == "omit_backend" and params["rocm"] == "assumed"
    return params["tp"] != "1" or not (params["backend"] == "uni" or omitted)


def requires(params: Params, environment: Environment) -> str | None:
    """VLLM, Ray where the host is an actor, and a GPU where the host is to have touched it before."""
    needed = missing_vllm(environment) or (missing(environment, "ray") if params["host"] == "ray_actor" else None)
    if needed is None and params["device_init"] == "true":
        return missing_gpu_torch(environment)
    return needed


def launch(params: Params, environment: Environment) -> Launch:
    """Inject the signal as soon as a process calls itself the inner worker."""
    fault = Fault(name="segv_in_worker", action=SendSignal(signal="SIGSEGV", target=WORKER))
    return Launch(
        module="scenarios.programs.nested_spawn",
        faults=(fault,) if params["inject"] == "sigsegv" else (),
        expected_s=40 if environment.gpus else 23,
        deadline_s=240,
        gpus=int(params["tp"]),
    )


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when an inner worker died of a crash signal, as the kernel told, and the engine did not come up."""
    cores = attempt.named(ENGINE_CORE)
    workers = inner_workers(attempt)
    config = attempt.mark("engine_config")
    effective = _effective(attempt, workers)
    patches = tuple(str(patch) for patch in config.data.get("patches", ())) if config else ()
    if attempt.params["inject"] != "none" and workers and not attempt.faults:
        reason = f"the inner worker (pid {workers[0].key.pid}) never took a title, so that the signal had no target"
        return Judgement(verdict=Verdict(name=VerdictName.NO_VERDICT, reasons=(reason,)), effective=effective)
    crashed = [process for process in workers if _crashed(process)]
    ready = attempt.mark("engine_ready")
    if crashed:
        first = crashed[0]
        signal = first.status.signal if first.status else None
        reason = f"{first.name} (pid {first.key.pid}) died of {signal} {'before' if ready is None else 'after'} ready"
        verdict = Verdict(name=VerdictName.REPRODUCED, signature=f"{signal} in {WORKER}", reasons=(reason,))
    elif ready is None:
        error = attempt.error_text("engine_failed").splitlines()
        verdict = Verdict(
            name=VerdictName.OTHER_FAILURE,
            signature=_failure(attempt, cores),
            reasons=("the engine did not come up", *error[:2]),
        )
    elif attempt.mark("collective_rpc") is None or attempt.mark("generated") is None:
        verdict = Verdict(
            name=VerdictName.OTHER_FAILURE,
            signature="engine up, unusable",
            reasons=("the engine came up, but generation or collective_rpc did not",),
        )
    else:
        reasons = ("the engine generated, and collective_rpc reached the worker extension",)
        verdict = Verdict(name=VerdictName.ABSENT, reasons=reasons)
    return Judgement(verdict=verdict, effective=effective, patches=patches, throughput=_throughput(attempt))


def inner_workers(attempt: Attempt) -> Sequence[Process]:
    """Return vLLM's workers: by their title, or else spawned processes whose parent was spawned, too.

    A process may keep the title of multiprocessing's spawn, where setproctitle does not find its arguments in memory
    (`scenarios.programs.local_ray.keep_titles`). Each spawn has arguments of its own; a process with no title but its
    parent's is no worker, but a fork that ended before its exec was seen, such as ``uname``.
    """
    spawned = {process.key: process.names for process in attempt.named(SPAWNED)}
    return attempt.named(WORKER) or [
        process
        for process in attempt.named(SPAWNED)
        if process.parent in spawned and not set(process.names) <= set(spawned[process.parent])
    ]


def _effective(attempt: Attempt, workers: object) -> dict[str, str]:
    """Read the executor off the process tree: an inner worker means mp, none means uni."""
    if not attempt.named(ENGINE_CORE) and not workers and attempt.mark("engine_ready") is None:
        return {}
    executor = "mp" if workers else "uni"
    effective = {"executor": executor}
    if attempt.named(SPAWNED):
        effective["start"] = "spawn"  # vLLM's CPU platform, and any Ray actor, override a wish for fork
    if attempt.params["backend"] != "default":
        effective["backend"] = executor
    return effective


def _crashed(process: Process) -> bool:
    return process.status is not None and process.status.signal in CRASHES


def _failure(attempt: Attempt, cores: object) -> str:
    crashed = [process for process in attempt.processes if _crashed(process)]
    if crashed:
        status = crashed[0].status
        return f"{status.signal if status else ''} in {crashed[0].name[:30]}"
    kinds = attempt.error_types("engine_failed")
    return f"engine failed:{kinds[0].rpartition('.')[2]}" if kinds else f"engine failed:{'core' if cores else 'host'}"


def _throughput(attempt: Attempt) -> dict[str, float] | None:
    generated = attempt.mark("generated")
    return {"output_tok_s": float(generated.data["tok_s"])} if generated else None


def _row(*suites: str, **params: str) -> Row:
    return Row(params=params, suites=frozenset({"full", *suites}))


SCENARIO = Scenario(
    name="nested_spawn",
    title="The inner worker of a nested spawn dies of a signal before it is ready",
    references=(Reference(name="verl#6459", url="https://github.com/volcengine/verl/pull/6459"),),
    axes=(
        Axis(name="host", values=("ray_actor", "process"), doc="what hosts the engine", shown=True),
        Axis(name="api", values=("AsyncLLM", "LLM"), doc="vLLM's interface", shown=True),
        Axis(name="backend", values=("mp", "default", "uni"), doc="distributed_executor_backend", shown=True),
        Axis(name="dtype", values=("float32", "bfloat16", "auto"), doc="dtype of the model"),
        Axis(name="mitigation", values=("none", "omit_backend"), doc="verl#6459's rule, never over an explicit choice"),
        Axis(name="rocm", values=("detected", "assumed"), doc="what the mitigation takes the platform to be"),
        Axis(name="start", values=("spawn", "fork"), doc="VLLM_WORKER_MULTIPROC_METHOD"),
        Axis(name="device_init", values=("false", "true"), doc="whether the host touches the device before"),
        Axis(name="tp", values=("1", "2"), doc="tensor_parallel_size"),
        Axis(name="inject", values=("none", "sigsegv"), doc="a signal to the inner worker before it is ready"),
    ),
    rows=(
        _row("laptop", inject="sigsegv"),
        _row("laptop"),
        _row("laptop", inject="sigsegv", backend="default", mitigation="omit_backend", rocm="assumed"),
        _row(inject="sigsegv", backend="mp", mitigation="omit_backend", rocm="assumed"),
        _row(host="process", api="LLM", backend="default"),
        _row("laptop", host="process", api="AsyncLLM", backend="uni"),
        _row("gpu-full", "rocm", device_init="true", inject="sigsegv"),
        _row("gpu-full", "rocm", device_init="true"),
    ),
    describe=describe,
    expect=expect,
    requires=requires,
    launch=launch,
    oracle=oracle,
)
