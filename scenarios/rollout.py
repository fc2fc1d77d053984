"""A rollout of vLLM servers in Ray actors (verl#1138), and what goes wrong with its handles, errors, names and caches.

Worker actors hold the model, and each server's engine finds its worker by name. A handle that was looked up is weak
(ray#45699): when the group that made the workers is collected, Ray ends them under the engines, and all that a caller
sees is a 500 of a dead engine. A scheduler that logs an exception instead of handing it on loses conversations without
a word. Conversations that do not stay with their server lose its prefix cache.
"""

from __future__ import annotations

from typing import Any

from harness.attempt import Attempt, Judgement, Mark
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
from scenarios.needs import missing, missing_gpus, missing_vllm, other_vendor

DIED = "all references to the actor were removed"
UNKNOWN_NAME = "Failed to look up actor with name"
SIGNATURES = {
    "weak": "ActorDiedError: all references to the actor were removed",
    "name": "ValueError: Failed to look up actor",
    "lost": "completions lost",
    "differ": "answers differ at temperature 0",
    "missed": "prefix cache missed",
}
EXECUTOR = "NamedActorExecutor"
INVARIANT = "VLLM_BATCH_INVARIANT"
BREAKING = frozenset({"too_long", "server_killed"})
"""Faults that make requests fail; what is judged is whether the failure is told."""


def describe(params: Params) -> Description:  # noqa: PLR0911 - one return a mechanism
    """The control of a weak handle is a strong one, of a dropped error a delivered one, of random routing a sticky."""
    if params["handles"] == "weak":
        return Description(kind=Kind.NATIVE)
    if params["fault"] == "name_lost":
        return Description(kind=Kind.NATIVE, control_of={**params, "handles": "weak"})
    if params["fault"] in BREAKING:
        dropped = params["errors"] == "dropped"
        return Description(kind=Kind.PROVOKED, control_of=None if dropped else {**params, "errors": "dropped"})
    if params["routing"] == "random" and params["servers"] != "1":
        return Description(kind=Kind.NATIVE)
    if params["servers"] != "1":
        return Description(kind=Kind.NATIVE, control_of={**params, "routing": "random"})
    if params["invariant"] == "on":
        return Description(kind=Kind.NATIVE, control_of={**params, "invariant": "off"})
    if params["dtype"] != "float32":
        narrow = params["hidden"] == "256" and params["mode"] == "sync"
        return Description(kind=Kind.NATIVE, control_of={**params, "hidden": "2048"} if narrow else None)
    if params["hidden"] != "256":
        return Description(kind=Kind.NATIVE, control_of={**params, "dtype": "bfloat16"})
    if params["mode"] == "sync" or params["turns"] != "3":
        return Description(kind=Kind.NATIVE)
    return Description(kind=Kind.NATIVE, control_of={"handles": "weak", "device": params["device"]})


def expect(params: Params, environment: Environment) -> Expectation | None:  # noqa: PLR0911 - one return a mechanism
    """Written before the first run of the scenario, by the mechanisms that the reasons name; but see `_rounded`."""
    del environment
    reproduced, absent = VerdictName.REPRODUCED, VerdictName.ABSENT
    if params["handles"] == "weak" and params["fault"] == "name_lost":
        reason = "the group is collected before the engine looks for its worker; with it the name is gone (verl#1138)"
        return Expectation(verdict=reproduced, reason=reason, signature=SIGNATURES["name"])
    if params["handles"] == "weak":
        reason = "the executor and the spawned group hold weak handles (ray#45699), and the collector frees the others"
        return Expectation(verdict=reproduced, reason=reason, signature=SIGNATURES["weak"])
    if params["fault"] in BREAKING and params["errors"] == "dropped":
        reason = "nobody calls the completion callback of a turn that failed"
        return Expectation(verdict=reproduced, reason=reason, signature=SIGNATURES["lost"])
    if params["fault"] in BREAKING:
        return Expectation(verdict=absent, reason="each conversation that cannot go on is told of its error")
    if params["routing"] == "random" and params["servers"] != "1":
        reason = "half of the later turns reach a server that has nothing of the conversation in its prefix cache"
        return Expectation(verdict=reproduced, reason=reason, signature=SIGNATURES["missed"])
    if params["dtype"] != "float32":
        return _rounded(params)
    if params["hidden"] != "256":
        return Expectation(verdict=absent, reason="sums differ in the last of 24 bits, too little to change a token")
    return Expectation(verdict=absent, reason="strong handles, errors delivered, each conversation with its server")


def _rounded(params: Params) -> Expectation:
    """Say what 8 bits of mantissa come to; `benchmarks/batch_bits.py` compares rows alone and in a batch.

    Against what was expected before their first runs a model of the hidden size of 256 does not differ, on the CPU and
    on a GPU, and one of 2,048 does on a GPU, though its products of few rows have the same bits: its attention has not.
    """
    where = {"rocm": "; not run on AMD hardware"}.get(params["device"], "")
    if params["invariant"] == "on":
        reason = "VLLM_BATCH_INVARIANT=1 cuts every sum in one way, however many requests there are"
        return Expectation(verdict=VerdictName.ABSENT, reason=reason + where)
    if params["hidden"] == "256":
        reason = (
            "the order of 256 or 512 summands hardly shows in 8 bits of mantissa: none of such sums differed in batches"
            " of 2 to 416 (a CPU, an H100), nor did the attention of 4 heads in batches of 2 to 16 (an H200)"
        )
        return Expectation(verdict=VerdictName.ABSENT, reason=reason + where)
    if params["device"] == "cuda":
        reason = (
            "a token's attention is summed in 16 parts while requests times heads of keys are at most 128, which is up"
            " to four requests here, not eight (TritonAttention's seq_threshold_3D, vllm#33688); where the two largest"
            " logits are close the token changes, and all after it"
        )
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=SIGNATURES["differ"])
    if params["device"] == "rocm":
        reason = (
            "up to five rows are multiplied by a kernel of their own, which cuts sums otherwise (wvSplitK), and eight"
            " conversations are more than that; not run on AMD hardware"
        )
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=SIGNATURES["differ"])
    reason = (
        "sums of 2,048 products and more have other bits in a batch, in decoding, too: one in 2,500 to 10,000 becomes"
        " its neighbour in bfloat16, 0.4% away; where the two largest logits are that close the token changes, and all"
        " after it"
    )
    return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=SIGNATURES["differ"])


def requires(params: Params, environment: Environment) -> str | None:
    """Ray, and vLLM for the device of the cell, which brings the OpenAI client along."""
    if params["device"] != "cpu":
        obstacle = missing_gpus(environment, int(params["servers"])) or other_vendor(environment, params["device"])
        if obstacle:
            return obstacle
    elif params["invariant"] == "on":
        return "vLLM's CPU backend has no batch-invariant mode"
    elif environment.gpus:
        return "vLLM would use the GPUs of this machine; device=cuda or rocm is the cell for it"
    return missing_vllm(environment) or missing(environment, "ray")


def launch(params: Params, environment: Environment) -> Launch:
    """Kill a server, where that is the fault, once some conversations are in their second turn."""
    del environment
    switch = {"on": {INVARIANT: "1"}, "off": {INVARIANT: "0"}}
    action = SendSignal(signal="SIGKILL", target="ray::RolloutServer")
    fault = Fault(name="kill_server", action=action, at="mid_turn")
    return Launch(
        module="scenarios.programs.rollout",
        env=switch[params["invariant"]],
        faults=(fault,) if params["fault"] == "server_killed" else (),
        expected_s=(30 if params["device"] == "cpu" else 90) + (0 if params["hidden"] == "256" else 30),
        deadline_s=240 if params["hidden"] == "256" else 600,
        gpus=int(params["servers"]),
    )


def oracle(attempt: Attempt) -> Judgement:
    """Judge by what the handles, the names and each conversation came to."""
    return Judgement(verdict=_verdict(attempt), effective=_effective(attempt), throughput=_throughput(attempt))


def _verdict(attempt: Attempt) -> Verdict:  # noqa: PLR0911 - one return a mechanism, the first cause first
    done, call = attempt.mark("rolled_out"), attempt.error_text("call_failed")
    if done is None:
        return _not_started(attempt)
    counted = f"{done.data['finished']} of {done.data['conversations']} conversations finished"
    told = [str(text) for text in done.data["told"]]
    if DIED in call:
        return _reproduced("weak", *_collected(attempt), f"{counted}; a client was told: {(told or ['nothing'])[0]}")
    if done.data["lost"]:
        return _reproduced("lost", f"{counted}, {len(told)} were told of an error, {len(done.data['lost'])} of nothing")
    if told and attempt.params["fault"] in BREAKING:
        reason = f"{counted}, the other {len(told)} were told: {told[0]}"
        return Verdict(name=VerdictName.ABSENT, reasons=(reason,))
    if told or attempt.params["fault"] in BREAKING:
        return _other("requests failed" if told else "the fault had no effect", f"{counted}; {told[:1]}")
    agreed, missed = attempt.mark("agreement"), int(done.data["missed"])
    if agreed is None:
        return _other("no comparison", "the conversations were not asked again alone")
    if agreed.data["share"] < 1:
        share = f"{agreed.data['share']:.0%} of the conversations have the same answers alone and together"
        return _reproduced("differ", share)
    if missed:
        return _reproduced("missed", f"{missed} later turns reached a server without their prefix; {_cache(done)}")
    reason = f"{counted}, with the same answers alone and together; {_cache(done)}"
    return Verdict(name=VerdictName.ABSENT, reasons=(reason,))


def _not_started(attempt: Attempt) -> Verdict:
    if attempt.mark("start_failed") is None:
        return _other("no rollout", "the conversations never came to an end")
    why = _first(attempt, "start_failed")
    if UNKNOWN_NAME in attempt.error_text("lookup_failed"):
        return _reproduced("name", f"no engine came up: {why}", _first(attempt, "lookup_failed"))
    return _other("start failed", why)


def _reproduced(what: str, *reasons: str) -> Verdict:
    return Verdict(name=VerdictName.REPRODUCED, signature=SIGNATURES[what], reasons=reasons)


def _other(signature: str, reason: str) -> Verdict:
    return Verdict(name=VerdictName.OTHER_FAILURE, signature=signature, reasons=(reason,))


def _first(attempt: Attempt, mark: str) -> str:
    return (attempt.error_text(mark).splitlines() or [""])[0][:300]


def _collected(attempt: Attempt) -> tuple[str, ...]:
    """Say when the collector freed the group, and whether anybody had to call it."""
    freed, loaded = attempt.mark("group_freed"), attempt.mark("loaded")
    if freed is None or loaded is None:
        return ()
    how = "by itself" if loaded.data["by_itself"] else "when it was called"
    seconds, rounds = freed.data["seconds"], loaded.data["rounds"]
    return (
        f"the collector freed the dropped group {how}, {seconds} s and {rounds} rounds of load after it was dropped",
    )


def _cache(done: Mark) -> str:
    found = done.data["prefix_cache"]
    return f"{found['hits']:.0f} of {found['queries']:.0f} prompt tokens came from the prefix cache" if found else ""


def _effective(attempt: Attempt) -> dict[str, str]:
    ready = [mark for mark in attempt.marks if mark.name == "server_ready"]
    if not ready:
        return {}
    executor = str(ready[0].data["executor"]).rpartition(".")[2]
    facts = {name: str(ready[0].data[name]) for name in ("dtype", "hidden", "invariant") if name in ready[0].data}
    return {"executor": executor, "servers": str(len(ready)), **facts}


def _throughput(attempt: Attempt) -> dict[str, float] | None:
    done, agreed = attempt.mark("rolled_out"), attempt.mark("agreement")
    if done is None:
        return None
    data: dict[str, Any] = dict(done.data)
    found = {"output_tok_s": float(data["tok_s"]), "requests_failed": float(len(data["told"]) + len(data["lost"]))}
    if cache := data["prefix_cache"]:
        found["prefix_cache_hit_rate"] = round(cache["hits"] / max(cache["queries"], 1), 4)
    return found | ({"agreement": float(agreed.data["share"])} if agreed is not None else {})


def _row(*suites: str, **params: str) -> Row:
    return Row(params=params, suites=frozenset({"full", *suites}), may_be_untestable=frozenset({"full"}))


SCENARIO = Scenario(
    name="rollout",
    title="A multi-turn rollout over vLLM servers in Ray actors loses workers, conversations or its prefix cache",
    references=(
        Reference(name="verl#1138", url="https://github.com/volcengine/verl/pull/1138"),
        Reference(name="verl#1443 (fix)", url="https://github.com/volcengine/verl/pull/1443"),
        Reference(name="ray#45699", url="https://github.com/ray-project/ray/pull/45699"),
        Reference(name="NeMo-RL#1495 (answers)", url="https://github.com/NVIDIA-NeMo/RL/pull/1495"),
        Reference(name="vllm#33688 (attention)", url="https://github.com/vllm-project/vllm/pull/33688"),
    ),
    axes=(
        Axis(name="handles", values=("strong", "weak"), doc="of the workers, once the servers are up", shown=True),
        Axis(name="mode", values=("async", "sync"), doc="each conversation goes on by itself, or all turn by turn"),
        Axis(name="routing", values=("sticky", "random"), doc="which server gets a later turn"),
        Axis(name="errors", values=("delivered", "dropped"), doc="whether the callback is told of an exception"),
        Axis(
            name="fault",
            values=("none", "too_long", "server_killed", "name_lost"),
            doc="prompts that outgrow the context, SIGKILL of a server, or the group collected before the start",
        ),
        Axis(name="servers", values=("1", "2"), doc="number of servers"),
        Axis(name="turns", values=("3", "6"), doc="answers of each conversation"),
        Axis(name="dtype", values=("float32", "bfloat16"), doc="of the model"),
        Axis(name="hidden", values=("256", "2048"), doc="size of the model's hidden states"),
        Axis(name="invariant", values=("off", "on"), doc="VLLM_BATCH_INVARIANT, which GPUs know: sums cut in one way"),
        Axis(name="device", values=("cpu", "cuda", "rocm"), doc="what the engines run on"),
    ),
    rows=(
        _row("laptop"),
        _row("laptop", handles="weak"),
        _row(fault="too_long", errors="dropped"),
        _row(fault="too_long"),
        _row(handles="weak", fault="name_lost"),
        _row(fault="name_lost"),
        _row(mode="sync"),
        _row(servers="2"),
        _row(servers="2", routing="random"),
        _row(servers="2", fault="server_killed"),
        _row(servers="2", fault="server_killed", errors="dropped"),
        _row(turns="6"),
        _row(turns="6", dtype="bfloat16"),
        _row(dtype="bfloat16", mode="sync"),
        _row(dtype="bfloat16", mode="sync", hidden="2048"),
        _row(mode="sync", hidden="2048"),
        *(
            _row(suite, device=device, **cell)
            for device, suite in (("cuda", "gpu-full"), ("rocm", "rocm"))
            for cell in (
                {},
                {"handles": "weak"},
                {"mode": "sync"},
                {"mode": "sync", "dtype": "bfloat16"},
                {"mode": "sync", "dtype": "bfloat16", "hidden": "2048"},
            )
        ),
        _row("gpu-full", device="cuda", mode="sync", dtype="bfloat16", hidden="2048", invariant="on"),
        _row("rocm", device="rocm", mode="sync", hidden="2048"),
        *(
            _row(suite, device=device, servers="2", routing=routing)
            for device, suite in (("cuda", "gpu-full"), ("rocm", "rocm"))
            for routing in ("sticky", "random")
        ),
    ),
    describe=describe,
    expect=expect,
    requires=requires,
    launch=launch,
    oracle=oracle,
)
