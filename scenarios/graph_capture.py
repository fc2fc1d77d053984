"""A captured GPU graph is invalidated by another thread, or silently lacks a kernel that ran off the capturing stream.

sglang#23581: on ROCm up to 7.2.0 the query of PyTorch's watchdog invalidates another thread's capture although the
watchdog's thread is in ``thread_local`` mode. The mechanism is CUDA's as well: while one thread captures in ``global``
mode, no other thread may make an unsafe call (an event query, an allocation), unless it has exchanged its own mode.
A kernel on a stream that never forked from the capturing one is not an error at all: it is not in the graph, and only
the numbers of a replay tell.
"""

from __future__ import annotations

from harness.attempt import Attempt, Judgement
from harness.outcome import Kind, Verdict, VerdictName
from harness.spec import Axis, Description, Environment, Expectation, Launch, Params, Reference, Scenario
from scenarios.capture_errors import INVALIDATED, UNJOINED, hsa_status, read, vendor
from scenarios.graph_capture_matrix import MODES, rows
from scenarios.needs import missing, missing_gpu_torch, missing_gpus, missing_vllm, other_vendor, release

UNSAFE = frozenset({"event_query", "malloc"})
"""Calls that the mode of the capture, or of the calling thread, decides about."""
SILENT = "kernel not in the graph"
OFF_STREAM = {"off": "forked", "default": "one", "unjoined": "joined"}
"""Arrangements that break the capture, each with the one that does the same rightly."""
WATCHDOG_FIXED = (7, 2, 1)
"""ROCm release whose hipEventQuery minds the mode of the calling thread (rocm-systems#3176)."""
_VLLM = {
    "none": "vLLM makes no unsafe call of another thread while it captures; graphs at TP=1 passed on an H200",
    "custom": "each rank captures vLLM's own all-reduce in one thread, and exchanges its addresses after the capture",
    "nccl": "NCCL's all-reduce is captured in one thread, and PyTorch's watchdog asks in thread_local mode",
}
ENVIRONMENTS = {
    "vllm": {"VLLM_ALLREDUCE_USE_SYMM_MEM": "0", "VLLM_ALLREDUCE_USE_FLASHINFER": "0"},
    "sglang": {"SGLANG_OPT_USE_CUSTOM_ALL_REDUCE_V2": "0"},
}
"""What engines with two ranks get: no all-reduce over symmetric memory, and none of another library.

SGLang's own all-reduce is thereby the one of its kernel package, over CUDA's IPC; the newer one of 0.5.17 is compiled
at start-up, and takes multicast over NVLink where it can be had.
"""
PROGRAMS = {"torch": "graph_capture", "vllm": "graph_capture_vllm", "sglang": "graph_capture_sglang"}


def broken_by(params: Params) -> str | None:
    """Return the signature with which CUDA's documented rules break a capture, or ``None`` if they do not."""
    disturbed = params["guard"] != "after_capture"
    if disturbed and params["trigger"] in UNSAFE and params["mode"] == "global" and params["guard"] == "none":
        return INVALIDATED.suffix
    if disturbed and params["trigger"] == "synchronize":
        return INVALIDATED.suffix
    if params["streams"] == "unjoined":
        return UNJOINED.suffix
    return SILENT if params["streams"] in OFF_STREAM else None


def describe(params: Params) -> Description:
    """Our own threads and streams misuse the API (provoked); the watchdog and a real engine are native."""
    if params["stack"] != "torch" or params["trigger"] == "watchdog":
        twin = {**params, "mode": "global"} if params["trigger"] == "watchdog" and params["mode"] != "global" else None
        own = params["stack"] == "sglang" and params["all_reduce"] == "custom"
        twin = {**params, "all_reduce": "aiter"} if own else twin
        return Description(kind=Kind.NATIVE, control_of=twin)
    if broken_by(params) is not None:
        return Description(kind=Kind.PROVOKED)
    return Description(kind=Kind.PROVOKED, control_of=_controlled(params))


def _controlled(params: Params) -> Params | None:
    """Return the failing cell next to a passing one; the first of these that does fail."""
    guarded = params["guard"] == "after_capture" and params["trigger"] == "synchronize"
    idle = params["trigger"] == "none" and params["guard"] != "none"
    wrong = next((broken for broken, sound in OFF_STREAM.items() if sound == params["streams"]), "one")
    candidates: tuple[Params, ...] = (
        {**params, "guard": "none"} if guarded else params,
        {**params, "mode": "global", "guard": "none"},
        {**params, "trigger": "synchronize"} if idle else params,
        {**params, "streams": wrong},
    )
    return next((one for one in candidates if broken_by(one) is not None), None)


def expect(params: Params, environment: Environment) -> Expectation | None:
    """CUDA's rules of stream capture, and on ROCm the defect of sglang#23581."""
    if params["stack"] == "vllm":
        return Expectation(verdict=VerdictName.ABSENT, reason=_VLLM[params["all_reduce"]] + _where(environment))
    if params["stack"] == "sglang":
        return _expect_sglang(params, environment)
    if params["trigger"] == "watchdog":
        return _expect_watchdog(params, environment)
    ignored = environment.rocm is not None and release(environment.rocm) < WATCHDOG_FIXED
    if ignored and params["trigger"] == "event_query" and params["mode"] == "global" and params["guard"] in MODES:
        reason = "hipEventQuery ignores the mode of the calling thread up to ROCm 7.2.0; not run on hardware"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=INVALIDATED.suffix)
    broken = broken_by(params)
    if broken is None:
        return Expectation(verdict=VerdictName.ABSENT, reason=_why_sound(params) + _where(environment))
    return Expectation(
        verdict=VerdictName.REPRODUCED, reason=_why_broken(params, broken) + _where(environment), signature=broken
    )


def _expect_sglang(params: Params, environment: Environment) -> Expectation:
    """By sglang#23581 and its comments; seen so on an H100, and with two ranks on two H200s."""
    if params["all_reduce"] == "aiter" and environment.rocm is not None and release(environment.rocm) < WATCHDOG_FIXED:
        reason = "up to ROCm 7.2.0 the watchdog's query invalidates the capture; AITER's all-reduce gives it time"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=f"{reason} (sglang#23581); not run on hardware")
    if params["all_reduce"] == "none":
        reason = "SGLang captures decoding before it serves, when no other thread uses the GPU"
    elif params["all_reduce"] == "aiter":
        reason = "from ROCm 7.2.1 on hipEventQuery minds the mode of the calling thread"
    else:
        reason = "without AITER's all-reduce the capture passed on ROCm 7.2.0, too (sglang#23581)"
    return Expectation(verdict=VerdictName.ABSENT, reason=reason)


def _expect_watchdog(params: Params, environment: Environment) -> Expectation:
    if environment.rocm is not None and release(environment.rocm) < WATCHDOG_FIXED and params["mode"] == "global":
        reason = "hipEventQuery ignores the mode of the watchdog's thread up to ROCm 7.2.0; not run on hardware"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=INVALIDATED.suffix)
    reason = "PyTorch's watchdog queries its events in thread_local mode, which CUDA honours"
    return Expectation(verdict=VerdictName.ABSENT, reason=reason)


def _why_broken(params: Params, broken: str) -> str:
    if broken == SILENT:
        return "a kernel on a stream that did not fork from the capturing one runs at once and is not captured"
    if broken == UNJOINED.suffix:
        return "a forked stream that is not joined makes the end of the capture fail (CUDA, all modes)"
    if params["trigger"] == "synchronize":
        return "a device-wide synchronisation includes the capturing stream, which no mode allows"
    return "in global mode an unsafe call of any other thread fails, and invalidates the capture"


def _why_sound(params: Params) -> str:
    if params["guard"] == "after_capture":
        return "the other thread waits for the end of the capture"
    if params["trigger"] in UNSAFE and params["guard"] != "none":
        return "the calling thread has exchanged its own mode, and CUDA asks only that one"
    if params["trigger"] in UNSAFE:
        return "outside global mode a capture does not restrict other threads"
    return "every kernel is on the capturing stream or on one that forked from it and joined it again"


def _where(environment: Environment) -> str:
    return "; not run on AMD hardware" if environment.rocm is not None else ""


def requires(params: Params, environment: Environment) -> str | None:
    """One GPU and a torch that can use it; two for the watchdog; vLLM or SGLang for their rows."""
    if params["all_reduce"] != "none" and params["stack"] == "torch":
        return "the all-reduce is chosen for vLLM and SGLang alone"
    if params["stack"] == "vllm":
        return _requires_vllm(params, environment)
    if params["stack"] == "sglang":
        return _requires_sglang(params, environment)
    if params["graphs"] != "own":
        return "graphs full, piecewise and off are vLLM's; torch rows capture their own"
    return missing_gpu_torch(environment, 2 if params["trigger"] == "watchdog" else 1)


def _requires_vllm(params: Params, environment: Environment) -> str | None:
    needed = missing_gpus(environment, _ranks(params)) or missing_vllm(environment)
    if needed is None and params["all_reduce"] == "aiter":
        needed = "AITER's all-reduce is chosen for SGLang's server alone"
    if needed is None and (params["trigger"] != "none" or params["graphs"] == "own"):
        needed = "vLLM captures by itself: no trigger, and graphs full, piecewise or off"
    return needed


def _requires_sglang(params: Params, environment: Environment) -> str | None:
    needed = missing_gpus(environment, _ranks(params)) or missing(environment, "sglang")
    if needed is None and params["all_reduce"] == "aiter":
        needed = other_vendor(environment, "rocm")
    if needed is None and (params["trigger"] != "none" or params["graphs"] not in {"full", "off"}):
        needed = "SGLang captures by itself: no trigger, and graphs full or off"
    return needed


def _ranks(params: Params) -> int:
    return 2 if params["trigger"] == "watchdog" or params["all_reduce"] != "none" else 1


def launch(params: Params, environment: Environment) -> Launch:
    """Run the program of the stack; the watchdog has one of its own, since it takes two ranks."""
    del environment
    program = "graph_capture_watchdog" if params["trigger"] == "watchdog" else PROGRAMS[params["stack"]]
    two = _ranks(params) > 1
    seconds = {
        "graph_capture": 8.0,
        "graph_capture_watchdog": 20.0,
        "graph_capture_vllm": 90.0 if two else 55.0,
        "graph_capture_sglang": 100.0 if two else 60.0,
    }[program]
    env = ENVIRONMENTS.get(params["stack"], {}) if two else {}
    if two and params["stack"] == "sglang":
        env = {**env, "SGLANG_USE_AITER_AR": str(params["all_reduce"] == "aiter").lower()}
    return Launch(
        module=f"scenarios.programs.{program}",
        expected_s=seconds,
        deadline_s=(420 if params["stack"] == "sglang" else 300) if seconds > 30 else 90,  # noqa: PLR2004
        env=env,
        gpus=_ranks(params),
    )


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when the capture failed with a capture error, or when a replay gave wrong numbers."""
    if attempt.params["stack"] != "torch":
        return _engine(attempt)
    stack = attempt.mark("stack")
    versions = {name: str(value) for name, value in (stack.data if stack else {}).items() if value is not None}
    return Judgement(verdict=_failure(attempt) or _sound(attempt), effective=versions)


def _failure(attempt: Attempt) -> Verdict | None:
    """Return the verdict of a capture that failed, of wrong numbers, or of an abort by ROCm's runtime."""
    other = _other_thread(attempt)
    if text := attempt.error_text("capture_failed"):
        if (error := read(text)) is None:
            reasons = (text.splitlines()[0][:300], *other)
            return Verdict(name=VerdictName.OTHER_FAILURE, signature="another error", reasons=reasons)
        reasons = (f"the capture: {_named(text)}", *other)
        return Verdict(name=VerdictName.REPRODUCED, signature=error.name(vendor(text)), reasons=reasons)
    wrong = [mark.data for mark in attempt.marks if mark.name == "replayed" and not mark.data["right"]]
    if wrong:
        got, wanted = wrong[0]["got"], wrong[0]["wanted"]
        reason = f"captured without an error; a replay gave {got:g} instead of {wanted:g}"
        return Verdict(name=VerdictName.REPRODUCED, signature=SILENT, reasons=(reason,))
    if (status := _aborted(attempt)) is not None:
        return Verdict(name=VerdictName.REPRODUCED, signature=status, reasons=(attempt.detail,))
    return None


def _sound(attempt: Attempt) -> Verdict:
    """Return ``absent`` if the disturbance took place and every replay was right, otherwise what is missing."""
    replays = sum(mark.name == "replayed" for mark in attempt.marks)
    other = _other_thread(attempt)
    if not replays or other or not _took_place(attempt):
        what = "the other thread failed" if other else "the other thread did nothing" if replays else "no replay"
        return Verdict(name=VerdictName.OTHER_FAILURE, signature=what, reasons=other)
    reason = f"captured, and {replays} replays gave the right numbers"
    return Verdict(name=VerdictName.ABSENT, reasons=(reason,))


def _took_place(attempt: Attempt) -> bool:
    """Whether the disturbance that the cell is about happened; without it a pass would mean nothing."""
    if attempt.params["trigger"] in {"none", "watchdog"}:
        return True
    done = attempt.mark("other_thread")
    return done is not None and bool(done.data["did"])


def _other_thread(attempt: Attempt) -> tuple[str, ...]:
    text = attempt.error_text("other_thread_failed")
    return (f"the other thread: {_named(text)}",) if text else ()


def _named(text: str) -> str:
    error = read(text)
    first = text.splitlines()[0][:200]
    return f"{error.name(vendor(text))} ({error.code}): {error.words}" if error else first


def _aborted(attempt: Attempt) -> str | None:
    """Return the HSA status of a process that ended by SIGABRT, as ROCm's runtime ends it."""
    aborted = any(process.status and process.status.signal == "SIGABRT" for process in attempt.processes)
    return hsa_status(attempt.detail) if aborted else None


def _engine(attempt: Attempt) -> Judgement:
    state, failed = attempt.mark("graph_state"), attempt.error_text("engine_failed")
    graphs = str(state.data["graphs"]) if state else ""
    effective = {"graphs": graphs} if graphs else {}
    effective |= {
        name: str(state.data[name])
        for name in ("vllm", "sglang", "runner", "all_reduce")
        if state and name in state.data
    }
    patches = ("a worker extension that reads the mode of the graphs",) if attempt.params["stack"] == "vllm" else ()
    if failed:
        error, status = read(failed), hsa_status(failed) if "HSA" in failed else None
        name = VerdictName.REPRODUCED if error or status else VerdictName.OTHER_FAILURE
        signature = error.name(vendor(failed)) if error else status or "engine failed"
        return Judgement(
            verdict=Verdict(name=name, signature=signature, reasons=tuple(failed.splitlines()[:2])),
            effective=effective,
            patches=patches,
        )
    loads = [mark for mark in attempt.marks if mark.name == "load"]
    throughput = {f"{mark.data['load']}_tok_s": float(mark.data["tok_s"]) for mark in loads}
    if not loads or state is None:
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature="no load was served")
        return Judgement(verdict=verdict, effective=effective, patches=patches)
    throughput["output_tok_s"] = float(loads[-1].data["tok_s"])
    reason = f"served; the worker captured {state.data['captured']} graphs, its mode is {state.data['mode']}"
    if (state.data["captured"] > 0) == (attempt.params["graphs"] == "off"):
        verdict = Verdict(name=VerdictName.UNTESTABLE, reasons=(reason,))
    else:
        verdict = Verdict(name=VerdictName.ABSENT, reasons=(reason,))
    return Judgement(verdict=verdict, effective=effective, patches=patches, throughput=throughput)


SCENARIO = Scenario(
    name="graph_capture",
    title="A captured graph is invalidated by another thread, or lacks a kernel without an error",
    references=(
        Reference(name="sglang#23581", url="https://github.com/sgl-project/sglang/pull/23581"),
        Reference(name="sglang#23580", url="https://github.com/sgl-project/sglang/issues/23580"),
        Reference(name="rocm-systems#3176", url="https://github.com/ROCm/rocm-systems/pull/3176"),
        Reference(
            name="cudaThreadExchangeStreamCaptureMode",
            url="https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__STREAM.html",
        ),
    ),
    axes=(
        Axis(
            name="trigger",
            values=("none", "event_query", "malloc", "synchronize", "watchdog"),
            doc="what another thread does during the capture",
            shown=True,
        ),
        Axis(name="mode", values=MODES, doc="capture mode", shown=True),
        Axis(
            name="guard",
            values=("none", "thread_local", "relaxed", "after_capture"),
            doc="mode that the other thread gives itself before, or that it waits for the end of the capture",
        ),
        Axis(
            name="streams",
            values=("one", "forked", "joined", "off", "default", "unjoined"),
            doc="where the middle kernel runs: forked by events or by wait_stream (joined), not forked, not joined",
        ),
        Axis(name="stack", values=("torch", "vllm", "sglang"), doc="who captures"),
        Axis(
            name="all_reduce",
            values=("none", "custom", "nccl", "aiter"),
            doc="an engine's at TP=2: its own, that of NCCL or RCCL, or for SGLang AITER's (ROCm); none at TP=1",
        ),
        Axis(
            name="graphs",
            values=("own", "full", "piecewise", "off"),
            doc="vLLM's cudagraph_mode; SGLang's graphs of decoding, full or off",
        ),
    ),
    rows=rows(),
    describe=describe,
    expect=expect,
    requires=requires,
    launch=launch,
    oracle=oracle,
)
