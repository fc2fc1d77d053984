"""A rank that ends its NCCL communicator never comes back from that call, and keeps its GPU memory (vllm#39846).

Up to 0.21 vLLM called ``ncclCommDestroy`` on the main thread; 0.22 calls ``ncclCommAbort`` on a thread that it leaves
alone after 5 s. NCCL waits there for what is still on its way: an all-reduce whose other rank is gone, or CUDA graphs
that hold its operations (``commDestroySync`` until ``localPersistentRefs`` is 0), which are let go of only after the
call. ``ncclCommDestroy`` also waits for every rank of the node that is still connected: ``commFree`` joins NCCL's proxy
thread, which stays until its peers have closed their connections (``proxy.cc``). A dead peer has; one that is stopped,
or alive and does something else, has not. ``ncclCommAbort`` lets the proxy close them itself.

Which of vLLM's two model runners an engine has decides whether its workers still hold graphs then: the older one drops
its full graphs with the model, before the communicator is ended; the newer one keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from harness.attempt import Attempt, Judgement, Standing
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
from scenarios.nccl_destroy_matrix import CLEANUPS, PAIRS, RUNNERS, SCENARIO_DEFAULTS
from scenarios.needs import missing, missing_gpu_torch, missing_gpus, missing_vllm, release

CONNECTED: Final = frozenset({"alive", "SIGSTOP"})
"""Peers that take no part in the end of the communicator, and keep their connections open."""
CALLS: Final = {"destroy_main": "ncclCommDestroy", "abort_main": "ncclCommAbort"}
PLACE: Final = re.compile(r"(ncclCommDestroy|ncclCommAbort)\b")
DETECTED_S: Final = 15.0
"""A hang must have been noticed this long after its begin, in seconds."""
DEEP: Final = 6
"""Calls below NCCL's that a reason names."""
FIXED: Final = (0, 22)
"""First vLLM that aborts on a thread."""
GROUPED: Final = (2, 57)
"""First Ray that ends the process group of a worker by default."""
ENGINES: Final = {"vllm_tp2": "nccl_destroy_vllm", "ray_tp2": "nccl_destroy_ray"}
"""Layers that are a whole engine, each with its program."""
LOOKED_AT: Final[dict[str, tuple[str, str, dict[str, int]]]] = {
    "vllm_tp2": ("fault_now", "workers", {"VLLM::Worker": 2}),
    "ray_tp2": ("family", "pids", {"VLLM::EngineCore": 1, "VLLM::Worker": 2}),
}
"""The mark, and its field, that names the processes whose end the program waits for, and who must be among them."""
ONLY_NCCL: Final = {"VLLM_ALLREDUCE_USE_SYMM_MEM": "0", "VLLM_ALLREDUCE_USE_FLASHINFER": "0"}
"""Keeps vLLM from its other all-reduces: it is NCCL's operations that the graphs are to hold."""


def stuck_in(params: Params) -> str | None:
    """Return the call that does not come back by NCCL's rules, or ``None``."""
    if params["destroy"] not in CALLS:
        return None
    destroyed = params["destroy"] == "destroy_main"
    held = params["collective"] == "pending" or params["peer"] in CONNECTED
    waits = int(params["graphs"]) > 0 or (destroyed and held)
    return CALLS[params["destroy"]] if waits else None


def describe(params: Params) -> Description:
    """Callers and peers are ours: provoked. Which cell controls which stands in `PAIRS`."""
    given = {name: value for name, value in params.items() if value != SCENARIO_DEFAULTS.get(name)}
    return Description(
        kind=Kind.PROVOKED, control_of=next((failing for failing, controls, _ in PAIRS if given in controls), None)
    )


def expect(params: Params, environment: Environment) -> Expectation | None:
    """What NCCL 2.28 waits for in its source, and what was seen on two H200s before this scenario was written."""
    version = release(environment.packages.get("vllm", "") if params["vllm"] == "installed" else params["vllm"])
    if params["layer"] in ENGINES:
        return _expect_engine(params, version, environment)
    if params["destroy"] == "shipped" and version and version < FIXED:
        params = {**params, "destroy": "destroy_main"}
    call = stuck_in(params)
    if call is None:
        return Expectation(verdict=VerdictName.ABSENT, reason=_why_not(params))
    why = _why(params)
    return Expectation(verdict=VerdictName.REPRODUCED, reason=why, signature=f"hang in {call}")


def _why(params: Params) -> str:
    if int(params["graphs"]):
        return (
            "commDestroySync waits until no CUDA graph holds an operation of the communicator; they are let go of later"
        )
    if params["collective"] == "pending":
        return "commDestroySync synchronises a stream whose all-reduce waits for a rank that does not take part"
    return (
        "commFree joins the proxy's thread, which stays while a rank of the node is connected (proxy.cc of NCCL 2.28)."
        " Until the first recorded run showed this, the call was expected to come back"
    )


def _expect_engine(params: Params, version: tuple[int, ...], environment: Environment) -> Expectation:
    if params["cleanup"] == "off":
        reason = "nobody ends the EngineCore of a killed actor, and it watches no parent (vllm#55510)"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature="engine survives")
    ray = release(environment.packages.get("ray", ""))
    grouped = params["cleanup"] == "group" or (params["cleanup"] == "default" and not (ray and ray < GROUPED))
    if params["layer"] == "ray_tp2" and grouped:
        reason = "the raylet ends the whole group of the killed actor, the workers too"
        return Expectation(verdict=VerdictName.ABSENT, reason=reason)
    if version and version < FIXED and int(params["graphs"]):
        if params["runner"] != "v2":
            reason = "the model runner v1, the default of 0.21, drops its graphs before the communicator is ended"
            return Expectation(verdict=VerdictName.ABSENT, reason=reason)
        reason = "up to 0.21 a worker calls ncclCommDestroy on its main thread, and v2 holds its graphs (vllm#39846)"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature="workers survive")
    reason = "since 0.22 the workers abort on a thread and wait 5 s for it; gone in 7 to 17 s on two H200s (0.26)"
    return Expectation(verdict=VerdictName.ABSENT, reason=reason)


def _why_not(params: Params) -> str:
    if params["destroy"] == "none":
        return "nobody asks NCCL to end; the driver takes everything back with the process"
    if params["destroy"] in {"abort_thread", "shipped"}:
        return "the caller waits 5 s for its thread, lets go of its graphs, and goes on whatever NCCL does"
    if params["collective"] == "pending":
        return "ncclCommAbort tells the kernels to give up before it waits for them"
    if params["peer"] == "destroys":
        return "nothing is on its way and no graph is held"
    if params["destroy"] == "abort_main":
        return "ncclCommAbort lets the proxy's thread close the connections of its peers itself"
    return "a dead peer has closed its connections, and nothing else is on its way"


def requires(params: Params, environment: Environment) -> str | None:
    """Two GPUs with torch; vLLM for the layers above NCCL, and nothing that a layer does not have."""
    if params["layer"] != "ray_tp2" and params["cleanup"] != "default":
        return "only an engine in a Ray actor is cleaned up by Ray: layer=ray_tp2"
    if params["layer"] not in ENGINES and params["runner"] != "default":
        return "only an engine has a model runner: layer=vllm_tp2 or layer=ray_tp2"
    if params["layer"] == "raw":
        return _requires_raw(params, environment)
    if params["layer"] in ENGINES and (params["destroy"], params["peer"]) != ("shipped", "destroys"):
        return "an engine ends its communicators in its own way: destroy=shipped, peer=destroys"
    needed = missing_gpus(environment, 2) or missing_vllm(environment) or missing_gpu_torch(environment, 2)
    return needed or (missing(environment, "ray") if params["layer"] == "ray_tp2" else None)


def _requires_raw(params: Params, environment: Environment) -> str | None:
    if params["destroy"] == "shipped":
        return "raw NCCL has no caller of its own: destroy=shipped needs a layer above it"
    if params["vllm"] != "installed":
        return "raw NCCL knows no vLLM: another release needs a layer above it"
    return missing_gpu_torch(environment, 2)


def launch(params: Params, environment: Environment) -> Launch:
    """Run the two ranks, or the engine whose EngineCore, or whose actor, is killed."""
    del environment
    overlays = {"vllm": params["vllm"]} if params["layer"] != "raw" else {}
    if params["layer"] in ENGINES:
        kill = Fault(name="kill_core", action=SendSignal(signal="SIGKILL", target="VLLM::EngineCore"), at="fault_now")
        return Launch(
            module=f"scenarios.programs.{ENGINES[params['layer']]}",
            faults=(kill,) if params["layer"] == "vllm_tp2" else (),
            env=ONLY_NCCL | CLEANUPS[params["cleanup"]] | RUNNERS[params["runner"]],
            overlays=overlays,
            expected_s=110,
            deadline_s=360,
            gpus=2,
        )
    hangs = stuck_in(params) is not None
    above = 12.0 if params["layer"] == "pynccl" else 0.0
    return Launch(
        module="scenarios.programs.nccl_destroy",
        overlays=overlays,
        expected_s=(33.0 if hangs else 14.0) + above,
        deadline_s=200,
        gpus=2,
    )


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when rank 0, or a worker of the engine, was still there long after it began to end."""
    if attempt.params["layer"] in ENGINES:
        return Judgement(verdict=_engine(attempt), effective=_versions(attempt, "engine"))
    effective = _versions(attempt, "rank")
    begun, survivor = attempt.mark("destroying"), attempt.mark("survivor")
    if begun is None:
        return Judgement(verdict=Verdict(name=VerdictName.OTHER_FAILURE, signature="never came to it"))
    if survivor is not None:
        return Judgement(verdict=_hang(attempt, begun.pid, begun.t_ns), effective=effective)
    ended, destroyed = attempt.mark("rank_0_ended"), attempt.mark("destroyed")
    if ended is None or destroyed is None or ended.data["code"] != 0:
        code = ended.data["code"] if ended is not None else "unknown"
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature="rank 0 failed", reasons=(f"exit code {code}",))
        return Judgement(verdict=verdict, effective=effective)
    seconds, after = destroyed.data["seconds"], ended.data["seconds"]
    reasons = [f"the call came back after {seconds:g} s, and rank 0 ended {after:g} s after its begin"]
    if (thread := attempt.mark("thread")) is not None:
        what = f"ended {thread.data['seconds']:g} s after the begin" if thread.data["ended"] else "was left behind"
        reasons.append(f"its thread {what}")
    return Judgement(verdict=Verdict(name=VerdictName.ABSENT, reasons=tuple(reasons)), effective=effective)


def _hang(attempt: Attempt, pid: int, begun_ns: int) -> Verdict:
    survivor, back = attempt.mark("survivor"), attempt.mark("memory_back")
    held = survivor.data["mib"] if survivor is not None else None
    after = back.data["seconds"] if back is not None else None
    memory = f"pid {pid} held {held if held is not None else 'an unknown number of'} MiB"
    freed = f", which came back {after:g} s after it was killed" if after is not None else ""
    doubts = [
        (doubt.t_ns - begun_ns) / 1e9
        for doubt in attempt.suspicions
        if pid in {key.pid for key in (*doubt.keys, *filter(None, [doubt.waiter]))}
        and doubt.suspicion not in {"survivors", "deadline"}
    ]
    call, below = where(attempt.standing, pid)
    if not doubts or min(doubts) > DETECTED_S:
        late = f"noticed after {min(doubts):.1f} s" if doubts else "not noticed while it lasted"
        return Verdict(name=VerdictName.OTHER_FAILURE, signature=f"missed: {call} hung", reasons=(late, memory + freed))
    reasons = (f"noticed {min(doubts):.1f} s after its begin", f"in {call}, below it {below}", memory + freed)
    return Verdict(name=VerdictName.REPRODUCED, signature=f"hang in {call}", reasons=reasons)


def where(standing: tuple[Standing, ...], pid: int) -> tuple[str, str]:
    """Return the NCCL call that a process stands in, and the innermost named calls below it; of any of its threads."""
    for thread in standing:
        if thread.key.pid != pid:
            continue
        for place, frame in enumerate(thread.frames):
            found = PLACE.search(frame)
            if found is not None:
                below = [name for name in thread.frames[:place] if not name.startswith("??")]
                return found[1], " ← ".join(below[:DEEP]) or "nothing"
    return "an unknown call", "nothing that a stack tool could show"


def _engine(attempt: Attempt) -> Verdict:
    if failed := attempt.error_text("engine_failed"):
        reasons = tuple(failed.splitlines()[:2])
        return Verdict(name=VerdictName.OTHER_FAILURE, signature="engine failed", reasons=reasons)
    engine, seen = attempt.mark("engine"), attempt.mark("workers")
    if engine is None or seen is None or not _delivered(attempt):
        return Verdict(name=VerdictName.OTHER_FAILURE, signature="fault not delivered")
    if unseen := _unseen(attempt):
        return Verdict(name=VerdictName.OTHER_FAILURE, signature="engine not seen", reasons=unseen)
    if differs := _other_engine(attempt.params, engine.data):
        return Verdict(name=VerdictName.UNTESTABLE, reasons=(differs,))
    survivors = [mark.data for mark in attempt.marks if mark.name == "survivor"]
    if survivors:
        whole = any("EngineCore" in str(one.get("title", "")) for one in survivors)
        reasons = tuple(_survivor(attempt, one) for one in survivors)
        signature = "engine survives" if whole else "workers survive"
        return Verdict(name=VerdictName.REPRODUCED, signature=signature, reasons=reasons)
    killed = "actor" if attempt.params["layer"] == "ray_tp2" else "EngineCore"
    reason = f"all its processes were gone {seen.data['seconds']:g} s after the end of the {killed}, which was killed"
    return Verdict(name=VerdictName.ABSENT, reasons=(reason,))


def _other_engine(params: Params, found: Mapping[str, Any]) -> str | None:
    """Say what the workers really had, where that is not what was asked for."""
    if (params["graphs"] != "0") is not all(found["captured"]):
        return f"graphs captured by the workers: {found['captured']}"
    if params["runner"] not in {"default", found.get("runner")}:
        return f"model runner of the workers: {found.get('runner')}"
    if params["graphs"] != "0" and found.get("all_reduce", "nccl") != "nccl":
        return f"the graphs hold another all-reduce than NCCL's: {found['all_reduce']}"
    return None


def _delivered(attempt: Attempt) -> bool:
    """Whether the EngineCore, or the actor that holds the engine, was really killed."""
    if attempt.params["layer"] == "ray_tp2":
        return attempt.mark("actor_gone") is not None
    return bool(attempt.faults) and attempt.faults[0].confirmed


def _unseen(attempt: Attempt) -> tuple[str, ...]:
    """Say who was not looked at; the program knows them by titles, and nobody survives among those that it missed."""
    mark, field, wanted = LOOKED_AT[attempt.params["layer"]]
    said = attempt.mark(mark)
    pids = said.data[field] if said is not None else ()
    names = [process.name for process in attempt.processes if process.key.pid in pids]
    found = {title: sum(name.startswith(title) for name in names) for title in wanted}
    return tuple(
        f"the program saw {found[title]} of {count} {title}" for title, count in wanted.items() if found[title] < count
    )


def _survivor(attempt: Attempt, one: Mapping[str, Any]) -> str:
    """Say what a survivor held, and in which call of NCCL it stands, if its stacks were taken."""
    call, below = where(attempt.standing, int(one["pid"]))
    place = f", in {call}, below it {below}" if PLACE.search(call) else ""
    what = f"held {one['mib']} MiB" if one["mib"] is not None else "was there"
    return f"{one.get('title', 'a worker')} (pid {one['pid']}) {what} {one['alive_s']:g} s later{place}"


def _versions(attempt: Attempt, mark: str) -> dict[str, str]:
    """Return what the program read off its stack; the axis ``runner`` only where one was asked for."""
    found = attempt.mark(mark)
    if found is None:
        return {}
    names = ("torch", "nccl", "vllm", *(("runner",) if attempt.params["runner"] != "default" else ()))
    given = _cleanup(found.data)
    return {name: str(found.data[name]) for name in names if name in found.data} | ({"cleanup": given} if given else {})


def _cleanup(found: Mapping[str, Any]) -> str | None:
    """Return which of the scenario's settings the raylet had, by name, or its variables; ``None`` in older records."""
    given = found.get("cleanup")
    return None if given is None else next((name for name, wanted in CLEANUPS.items() if wanted == given), str(given))


def _row(*suites: str, **params: str) -> Row:
    without_gpus = frozenset({"laptop"})
    return Row(params=params, suites=frozenset({"full", "gpu-full", *suites}), may_be_untestable=without_gpus)


SCENARIO = Scenario(
    name="nccl_destroy",
    title="Ending an NCCL communicator hangs, and the process keeps its GPU memory",
    references=(
        Reference(name="vllm#39846", url="https://github.com/vllm-project/vllm/pull/39846"),
        Reference(name="nccl#1013", url="https://github.com/NVIDIA/nccl/issues/1013"),
        Reference(name="pytorch#180611", url="https://github.com/pytorch/pytorch/issues/180611"),
    ),
    axes=(
        Axis(
            name="destroy",
            values=("destroy_main", "abort_main", "abort_thread", "shipped", "none"),
            doc="how rank 0 ends the communicator; shipped: as the layer's own release does",
            shown=True,
        ),
        Axis(
            name="peer",
            values=("destroys", "exits", "SIGKILL", "SIGSTOP", "alive"),
            doc="what rank 1 does then",
            shown=True,
        ),
        Axis(name="graphs", values=("0", "1", "8"), doc="CUDA graphs that hold an all-reduce, per rank", shown=True),
        Axis(name="collective", values=("none", "pending"), doc="an all-reduce of rank 0 that rank 1 never joins"),
        Axis(
            name="layer",
            values=("raw", "pynccl", "vllm_tp2", "ray_tp2"),
            doc="who calls NCCL; an engine with TP=2 loses its EngineCore, or the Ray actor that holds it is killed",
        ),
        Axis(
            name="vllm",
            values=("installed", "0.21.0", "0.22.0"),
            doc="release of vLLM: 0.21 destroys on the main thread, 0.22 and later abort on one that they leave",
            package="vllm",
        ),
        Axis(name="cleanup", values=tuple(CLEANUPS), doc="Ray's settings for what a killed actor leaves behind"),
        Axis(
            name="runner",
            values=tuple(RUNNERS),
            doc="vLLM's model runner; v1 drops its full graphs before it ends the communicator, v2 keeps them",
        ),
    ),
    rows=(
        *(_row(*suites, **cell) for failing, controls, suites in PAIRS for cell in (failing, *controls)),
        _row("gpu2", "rocm", layer="vllm_tp2", destroy="shipped", graphs="1"),
        _row(layer="vllm_tp2", destroy="shipped"),
    ),
    describe=describe,
    expect=expect,
    requires=requires,
    launch=launch,
    oracle=oracle,
)
