"""Data-parallel ranks of which only one steps: the others never join its collective, and it waits for ever.

Engines that know of each other by ``VLLM_DP_*`` alone ("offline") have no coordinator. A rank that has work agrees with
all others on the size of the batch in an all-reduce before each step; a rank without work sits in its queue, where only
a request of its own or a coordinator's START_DP_WAVE reaches it. NeMo-RL's asynchronous engine met exactly that
(NeMo-RL#1101); the remedy of NeMo-RL#1495, independent engines, keeps them from waiting and silently gives up expert
parallelism: EP is as large as DP times TP of one engine, which is 1.

On the CPU vLLM 0.32 cannot step both ranks as shipped, so that the controls run with labelled worker extensions
(``supply``); the cells without them stay as what they are. On GPUs nothing is supplied. There, too, the ranks agree
over gloo, since vLLM schedules asynchronously by default and then keeps NCCL out of this (0.26: ``config/vllm.py``).
"""

from __future__ import annotations

from harness.attempt import Attempt, Judgement
from harness.judge import CRASHES
from harness.outcome import Kind, Verdict, VerdictName
from harness.spec import Axis, Description, Environment, Expectation, Launch, OnHang, Params, Reference, Row, Scenario
from scenarios.needs import missing, missing_gpus, missing_vllm, other_vendor

FRAME = "_run_ar (dp_utils.py)"
"""Where a rank waits for the others: under ``coordinate_batch_across_dp``."""
STANDING = r"_run_ar \(dp_utils\.py"
SIGNATURE = f"hang in {FRAME}"
HANGS = frozenset({"deadlock", "waiting_for_peer", "livelock", "gpu_busy"})
GATHER = "all_gatherv and reduce_scatterv of the CPU communicator over gloo"
EXPERT_MAP = "the CPU experts use the expert map"
STATS_ADDRESS = "the asynchronous client gets a statistics address that nobody serves (NeMo-RL#1495)"
ONE_ENGINE = "the asynchronous client is that of one engine, not the one that balances over several"
PATCHES = {"nothing": (), "gather": (GATHER,), "all": (GATHER, EXPERT_MAP)}
GPUS = 2


def describe(params: Params) -> Description:
    """Stepping one rank of two is the caller's doing; with both, with a coordinator, or without DP that passes."""
    passing = params["step_ranks"] == "both" or params["dp_mode"] != "offline"
    whole = params["device"] != "cpu" or params["supply"] == "all"
    given_up = params["dp_mode"] == "ray" and params["ep"] == "on"
    if params["api"] != "AsyncLLM" and passing and not given_up and (whole or params["dp_mode"] == "ray"):
        same = params["dp_mode"] == "offline" and params["api"] == "LLM"
        lonely = {"dp_mode": "offline", "step_ranks": "only_0", "ep": "on"} | ({} if same else {"supply": "nothing"})
        return Description(kind=Kind.PROVOKED, control_of={**params, **lonely})
    return Description(kind=Kind.PROVOKED if params["step_ranks"] == "only_0" else Kind.NATIVE)


def expect(params: Params, environment: Environment) -> Expectation | None:  # noqa: PLR0911 - one return a mechanism
    """Without a coordinator a lonely rank waits for ever; what vLLM lacks on the CPU stops the others, too."""
    del environment
    absent, other = VerdictName.ABSENT, VerdictName.OTHER_FAILURE
    if params["dp_mode"] == "ray":
        if params["ep"] == "on":
            reason = "EP is as large as DP times TP of one engine, which is 1: asked for, and not in effect"
            return Expectation(verdict=VerdictName.UNTESTABLE, reason=reason)
        return Expectation(verdict=absent, reason="independent engines have no collective in common (NeMo-RL#1495)")
    if params["dp_mode"] == "offline" and params["api"] == "AsyncLLM":
        reason = "DPAsyncMPClient asserts an address for statistics, which only a coordinator gives (vLLM 0.11 to 0.32)"
        return Expectation(verdict=other, reason=reason, signature="stats_update_address")
    if params["dp_mode"] == "offline" and params["step_ranks"] == "only_0":
        reason = "the idle rank waits in its queue, and there is no coordinator that would wake it (NeMo-RL#1101)"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=FRAME)
    if params["device"] == "cpu" and params["supply"] == "nothing":
        reason = "the CPU communicator of vLLM 0.32 has no all_gatherv, which the dispatch to experts needs"
        return Expectation(verdict=other, reason=reason, signature="NotImplementedError")
    if params["device"] == "cpu" and params["supply"] == "gather" and params["ep"] == "on":
        reason = (
            "cpu_fused_moe is called with the numbers of all experts and without the expert map: it reads weights that"
            " the rank does not have. Seen while the gather was being written, before the first recorded run"
        )
        return Expectation(verdict=other, reason=reason, signature="SIGSEGV")
    if params["dp_mode"] == "coordinator":
        return Expectation(verdict=absent, reason="the coordinator wakes the idle rank, which runs dummy batches")
    return Expectation(verdict=absent, reason="both ranks come to every collective")


def requires(params: Params, environment: Environment) -> str | None:
    """VLLM for the device of the cell, two of it if it is a GPU, and Ray where Ray starts the ranks."""
    if params["device"] != "cpu":
        if obstacle := missing_gpus(environment, GPUS) or other_vendor(environment, params["device"]):
            return obstacle
    elif environment.gpus:
        return "vLLM would use the GPUs of this machine; device=cuda or rocm is the cell for it"
    return missing_vllm(environment) or (missing(environment, "ray") if params["dp_mode"] == "ray" else None)


def launch(params: Params, environment: Environment) -> Launch:
    """Run the program; a hang of offline ranks ends it as soon as its stacks are taken."""
    del environment
    on_hang = OnHang.KILL if params["dp_mode"] == "offline" else OnHang.CAPTURE
    seconds = 32 if params["device"] == "cpu" else 90
    return Launch(
        module="scenarios.programs.dp_ep_deadlock", expected_s=seconds, deadline_s=240, on_hang=on_hang, gpus=GPUS
    )


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when a rank that was asked to step stands in the all-reduce of the ranks and nothing moves."""
    return Judgement(
        verdict=_verdict(attempt),
        effective=_effective(attempt),
        patches=_patches(attempt),
        throughput=_throughput(attempt),
    )


def _verdict(attempt: Attempt) -> Verdict:
    hangs = [doubt for doubt in attempt.suspicions if doubt.suspicion in HANGS]
    waiting, answered = attempt.stuck_in(STANDING), attempt.mark("answered")
    if hangs and waiting and answered is None and attempt.mark("stepping"):
        who = ", ".join(f"{process.name} (pid {process.key.pid})" for process in waiting)
        reasons = (f"{who} waits in {FRAME}", *hangs[0].reasons)
        return Verdict(name=VerdictName.REPRODUCED, signature=SIGNATURE, reasons=reasons)
    if hangs and answered is None:
        where = f"hang: {hangs[0].suspicion}"
        return Verdict(name=VerdictName.OTHER_FAILURE, signature=where, reasons=hangs[0].reasons)
    if answered is not None and not answered.data["failed"] and all(answered.data["tokens"]):
        said = f"every rank that was asked to step did: {answered.data['tokens']} tokens"
        return Verdict(name=VerdictName.ABSENT, reasons=(said,))
    return Verdict(name=VerdictName.OTHER_FAILURE, signature=_failure(attempt), reasons=_errors(attempt))


def _failure(attempt: Attempt) -> str:
    """Name the first cause that is known: a signal, else what an engine said, else the error of a rank."""
    for process in attempt.processes:
        if process.status is not None and process.status.signal in CRASHES:
            return f"{process.status.signal} in {process.name.partition('_')[0]}"
    said = attempt.mark("engines_said")
    words = [str(word) for word in said.data["words"]] if said else []
    kinds = [kind.rpartition(".")[2] for kind in attempt.error_types("rank_failed")]
    return (words or kinds or ["no rank stepped"])[0]


def _errors(attempt: Attempt) -> tuple[str, ...]:
    return tuple(
        f"{link['type']}: {link['text']}"[:300]
        for mark in attempt.marks
        if mark.name == "rank_failed"
        for link in mark.data["error"]
    )


def _effective(attempt: Attempt) -> dict[str, str]:
    """Read the sizes off the loaded layers; the process groups and the log name an EP rank even where there is none."""
    ready = attempt.mark("rank_ready")
    if ready is None:
        return {}
    size = int(ready.data["ep"])
    return {"ep": "on" if size > 1 else "off", "ep_size": str(size), "dp_size": str(ready.data["dp"])}


def _patches(attempt: Attempt) -> tuple[str, ...]:
    asynchronous = (STATS_ADDRESS, ONE_ENGINE) if attempt.params["api"] == "AsyncLLM_patched" else ()
    return (*PATCHES[attempt.params["supply"]], *asynchronous)


def _throughput(attempt: Attempt) -> dict[str, float] | None:
    answered = attempt.mark("answered")
    return {"output_tok_s": float(answered.data["tok_s"])} if answered and not answered.data["failed"] else None


def _row(*suites: str, **params: str) -> Row:
    return Row(params=params, suites=frozenset({"full", *suites}), may_be_untestable=frozenset({"full"}))


def _gpu_rows(device: str, suite: str) -> tuple[Row, ...]:
    cells: tuple[dict[str, str], ...] = (
        {},
        {"step_ranks": "both"},
        {"step_ranks": "both", "ep": "off"},
        {"dp_mode": "coordinator"},
        {"dp_mode": "ray", "ep": "off"},
        {"api": "AsyncLLM"},
    )
    return tuple(_row(suite, device=device, **cell) for cell in cells)


SCENARIO = Scenario(
    name="dp_ep_deadlock",
    title="One of two data-parallel ranks steps, and waits for the other one for ever",
    references=(
        Reference(name="NeMo-RL#1101", url="https://github.com/NVIDIA-NeMo/RL/issues/1101"),
        Reference(name="NeMo-RL#1495", url="https://github.com/NVIDIA-NeMo/RL/pull/1495"),
        Reference(name="vllm#43547", url="https://github.com/vllm-project/vllm/issues/43547"),
    ),
    axes=(
        Axis(
            name="dp_mode",
            values=("offline", "coordinator", "ray"),
            doc="VLLM_DP_* alone, vllm serve -dp 2, or independent engines in Ray actors",
            shown=True,
        ),
        Axis(name="step_ranks", values=("only_0", "both"), doc="which ranks get requests", shown=True),
        Axis(
            name="ep", values=("on", "off"), doc="enable_expert_parallel; the row tells the size in effect", shown=True
        ),
        Axis(name="api", values=("LLM", "AsyncLLM", "AsyncLLM_patched"), doc="interface of an offline rank"),
        Axis(name="supply", values=("nothing", "gather", "all"), doc="what worker extensions add on the CPU"),
        Axis(name="device", values=("cpu", "cuda", "rocm"), doc="what the engines run on"),
    ),
    rows=(
        _row("laptop"),
        _row("laptop", step_ranks="both", supply="all"),
        _row("laptop", dp_mode="coordinator", supply="all"),
        _row(step_ranks="both"),
        _row(step_ranks="both", supply="gather"),
        _row(step_ranks="both", supply="all", ep="off"),
        _row(supply="all"),
        _row(dp_mode="coordinator", step_ranks="both", supply="all"),
        _row(dp_mode="ray", ep="off"),
        _row(dp_mode="ray"),
        _row(dp_mode="ray", step_ranks="both", ep="off"),
        _row(api="AsyncLLM"),
        _row(api="AsyncLLM_patched"),
        _row(api="AsyncLLM_patched", step_ranks="both", supply="all"),
        *_gpu_rows("cuda", "gpu-full"),
        *_gpu_rows("rocm", "rocm"),
    ),
    describe=describe,
    expect=expect,
    requires=requires,
    launch=launch,
    oracle=oracle,
)
