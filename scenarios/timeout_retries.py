"""Timeouts that retries hide, and what they do to the server: work done several times, or a dead engine.

The openai client tries again after a timeout, twice unless told otherwise, with the same headers, and tells nobody
(`_base_client._sleep_for_retry`). vLLM's own routes notice that the client is gone and drop the request; a route
without `with_cancellation`, as verl's first server had it (verl#1138), goes on with it. The retry then comes while the
first attempt is running. Up to vLLM 0.13 a request id in use is refused, and the caller sees "Request id … already
running" instead of the timeout. Since 0.14.0 vLLM makes ids of its own out of those that clients send;
``VLLM_DISABLE_REQUEST_ID_RANDOMIZATION=1`` takes them as they are, and a second request under one of them trips an
assertion that EngineCore handles nowhere: the engine dies, and with it everybody's requests.

verl's fix (verl#1483): no timeout, no retries, a new id for each call.
"""

from __future__ import annotations

from typing import Any

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
from scenarios.needs import missing, missing_vllm, release

DUPLICATE = "AssertionError: duplicate request id"
RUNNING = "already running"
OFF = "VLLM_DISABLE_REQUEST_ID_RANDOMIZATION"
RANDOMISED_SINCE = (0, 14)
FIX = {"timeout": "none", "max_retries": "0", "request_id": "fresh"}
STALL_S = 1.8
"""How long the engine is stopped: the first attempt runs into its timeout of 1 s, the second one can be answered."""


def describe(params: Params) -> Description:
    """The caller's settings, its ids or a stopped engine bring it about; verl's fix, or part of it, is the control."""
    failing = dict(params)
    if params["trigger"] == "twice":
        failing["request_id"] = "fixed"
        failing["id_randomisation"] = "on" if _old(params) else "off"
    elif all(params[name] == value for name, value in FIX.items()):
        fixed = params["id_randomisation"] == "off"
        failing |= {"timeout": "1", "max_retries": "2", "request_id": "fixed" if fixed else "none"}
    elif params["max_retries"] == "0":
        failing["max_retries"] = "2"
    return Description(kind=Kind.PROVOKED, control_of=failing if failing != params else None)


def expect(params: Params, environment: Environment) -> Expectation | None:
    """One attempt hides nothing; several do the work several times, or meet each other under one id."""
    del environment
    if params["id_randomisation"] == "inherited":
        return None
    meeting = _expect_meeting(params) if _meets(params) else None
    if meeting is not None:
        return meeting
    if params["trigger"] == "twice":
        return Expectation(verdict=VerdictName.ABSENT, reason="the ids that reach the scheduler differ")
    if params["timeout"] == "none" or params["max_retries"] == "0":
        reason = "without a timeout there is nothing to try again, and without retries the caller is told of it"
        return Expectation(verdict=VerdictName.ABSENT, reason=reason)
    if params["trigger"] == "stall":
        reason = "the second attempt is answered once the engine goes on; the client tells its log only of the first"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature="answered after")
    reason = "every attempt takes longer than the timeout, and the client makes two more (openai _base_client)"
    return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature="APITimeoutError after")


def _expect_meeting(params: Params) -> Expectation | None:
    """Return what becomes of a request under an id that is in use; ``None`` where vLLM gives it another one."""
    if _old(params):
        reason = "OutputProcessor.add_request refuses an id that is in use (vLLM up to 0.13.0)"
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=RUNNING)
    if params["id_randomisation"] == "on":
        return None
    reason = "Scheduler.add_request asserts that the id is new, and EngineCore does not guard it (vLLM 0.15.1 and on)"
    return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=DUPLICATE)


def _old(params: Params) -> bool:
    """Whether vLLM takes ids as they are, and refuses one that is in use."""
    found = release(params["vllm"])
    return bool(found) and found < RANDOMISED_SINCE


def _meets(params: Params) -> bool:
    """Whether a second request reaches the engine under an id that is in use."""
    if params["request_id"] == "none" or (params["request_id"] == "fresh" and params["trigger"] == "twice"):
        return False  # ids are made by the server for each request, or by the caller for each call
    if params["trigger"] == "twice":
        return True
    retried = params["timeout"] != "none" and params["max_retries"] != "0"
    return retried and params["route"] == "uncancelled"


def requires(params: Params, environment: Environment) -> str | None:
    """A real server and the real client."""
    del params
    return missing_vllm(environment) or missing(environment, "openai", "aiohttp")


def launch(params: Params, environment: Environment) -> Launch:
    """Run the program; ``inherited`` leaves the variable as it is, which a bisection over knobs needs."""
    switch = {"off": {OFF: "1"}, "on": {OFF: "0"}, "inherited": {}}
    action = SendSignal(signal="SIGSTOP", target="VLLM::EngineCore")
    stop = Fault(name="stall_engine", action=action, at="stall_now", lasts_s=STALL_S)
    return Launch(
        module="scenarios.programs.timeout_retries",
        env=switch[params["id_randomisation"]],
        overlays={"openai": params["openai"], "vllm": params["vllm"]},
        faults=(stop,) if params["trigger"] == "stall" else (),
        expected_s=60 if environment.gpus else 20,
        deadline_s=240,
    )


def oracle(attempt: Attempt) -> Judgement:
    """Told from what reached the server, what the caller saw, and what the engine said and counted."""
    versions, others = attempt.mark("versions"), attempt.mark("others")
    throughput = None
    if others is not None:
        throughput = {
            "output_tok_s": round(others.data["output_tok_s"], 1),
            "ttft_ms": round(others.data["ttft"]["median"], 2),
            "tpot_ms": round(others.data["tpot"]["median"], 3),
            "requests_ok": others.data["requests_ok"],
            "requests_failed": others.data["requests_failed"],
        }
    return Judgement(
        verdict=_verdict(attempt),
        effective={name: str(value) for name, value in versions.data.items()} if versions else {},
        throughput=throughput,
    )


def _verdict(attempt: Attempt) -> Verdict:
    asked = attempt.mark("asked")
    if asked is None:
        return Verdict(name=VerdictName.OTHER_FAILURE, signature="nothing was asked")
    obstacle = _obstacle(attempt, asked.data)
    if obstacle is not None:
        return Verdict(name=VerdictName.UNTESTABLE, reasons=(obstacle,))
    attempts = sum(mark.name == "request_seen" for mark in attempt.marks)
    reasons = (_caller(asked.data), *_work(asked.data, attempts), *_others(attempt))
    signature = _failure(asked.data, attempts)
    if signature is not None:
        return Verdict(name=VerdictName.REPRODUCED, signature=signature, reasons=reasons)
    kind = _kind(asked.data)
    if asked.data["healthy"] and (asked.data["answered"] or kind == "APITimeoutError"):
        return Verdict(name=VerdictName.ABSENT, reasons=reasons)
    health = "" if asked.data["healthy"] else ", server unhealthy"
    return Verdict(name=VerdictName.OTHER_FAILURE, signature=f"not answered:{kind}{health}", reasons=reasons)


def _failure(asked: Any, attempts: int) -> str | None:  # noqa: ANN401 - an observation's data
    """Return the signature of what the scenario is about: a dead engine, a refused id, or work done again."""
    if DUPLICATE in asked["said"] and not asked["healthy"]:
        return DUPLICATE
    if any(RUNNING in link["text"] for link in asked["shown"]):
        return f"{_kind(asked)}: Request id {RUNNING}"
    if attempts > 1 and asked["healthy"]:
        return f"{'answered' if asked['answered'] else _kind(asked)} after {attempts} attempts"
    return None


def _kind(asked: Any) -> str:  # noqa: ANN401 - as above
    """Return the type of the error that the caller saw."""
    return str(asked["shown"][0]["type"]).rpartition(".")[2] if asked["shown"] else ""


def _obstacle(attempt: Attempt, asked: Any) -> str | None:  # noqa: ANN401 - as above
    """Return what the cell needed and did not get."""
    if attempt.params["trigger"] == "twice" and not asked["overlapped"]:
        return "the first request was not being served when the second one came"
    if attempt.params["trigger"] == "stall" and not any(fault.confirmed for fault in attempt.faults):
        return "the engine could not be stopped: " + "; ".join(fault.detail for fault in attempt.faults)
    limited = attempt.params["trigger"] == "slow" and attempt.params["timeout"] != "none"
    if limited and asked["answered"] and not asked["swallowed"] and asked["healthy"]:
        return f"{asked['asked_tokens']} tokens took {asked['seconds']} s here: no attempt ran into the timeout"
    return None


def _caller(asked: Any) -> str:  # noqa: ANN401 - as above
    what = f"an answer of {asked['delivered']} tokens" if asked["answered"] else ""
    if asked["shown"]:
        what = f"{asked['shown'][0]['type']}: {asked['shown'][0]['text'][:200]}"
    hidden = f"; the client's log alone has: {', '.join(asked['swallowed'])}" if asked["swallowed"] else ""
    return f"the caller saw {what} after {asked['seconds']} s{hidden}"


def _work(asked: Any, attempts: int) -> tuple[str, ...]:  # noqa: ANN401 - as above
    if asked["generated"] is None:
        return (f"{attempts} attempts reached the server" if attempts else "the requests reached the engine",)
    times = asked["generated"] / asked["asked_tokens"]
    made = f"the engine made {asked['generated']} tokens for them, {times:.2f} times what was asked for"
    return (f"{attempts or 2} requests reached the server; {made}, and {asked['delivered']} were delivered",)


def _others(attempt: Attempt) -> tuple[str, ...]:
    others = attempt.mark("others")
    if others is None:
        return ()
    told = [
        f"{one['window']} {one['output_tok_s']} tok/s, {one['e2el_ms']} ms, {one['requests_failed']} failed"
        for one in others.data["windows"]
    ]
    return (f"others: {'; '.join(told)}",)


GPUS = ("gpu-full", "rocm")


def _row(*suites: str, **params: str) -> Row:
    return Row(params=params, suites=frozenset({"full", *suites}), may_be_untestable=frozenset({"full"}))


SCENARIO = Scenario(
    name="timeout_retries",
    title="Retries hide a timeout, do the work several times, or meet their own first attempt",
    references=(
        Reference(name="verl#1138", url="https://github.com/volcengine/verl/pull/1138"),
        Reference(name="verl#1483 (fix)", url="https://github.com/volcengine/verl/pull/1483"),
        Reference(
            name="vllm scheduler", url="https://github.com/vllm-project/vllm/blob/main/vllm/v1/core/sched/scheduler.py"
        ),
    ),
    axes=(
        Axis(
            name="trigger",
            values=("slow", "stall", "twice"),
            doc="slow: the answer takes longer than the timeout; stall: the engine stops for a while, once;"
            " twice: the caller itself sends two requests",
        ),
        Axis(name="timeout", values=("1", "none"), doc="of the client, in seconds", shown=True),
        Axis(name="max_retries", values=("2", "0"), doc="of the client; 2 is its default", shown=True),
        Axis(
            name="request_id",
            values=("none", "fixed", "fresh"),
            doc="X-Request-Id: not sent; one for all; new for each call (the client's retries send it again)",
            shown=True,
        ),
        Axis(name="id_randomisation", values=("on", "off", "inherited"), doc="of ids by vLLM; inherited: untouched"),
        Axis(name="route", values=("stock", "uncancelled"), doc="vLLM's, or one without cancellation as in verl#1138"),
        Axis(name="openai", values=("installed", "1.76.0", "2.6.1"), doc="release of the client", package="openai"),
        Axis(name="vllm", values=("installed", "0.13.0"), doc="release of vLLM", package="vllm"),
        Axis(name="prefix_caching", values=("on", "off"), doc="of vLLM"),
        Axis(name="chunked_prefill", values=("on", "off"), doc="of vLLM"),
        Axis(name="max_num_seqs", values=("16", "8"), doc="of vLLM"),
    ),
    rows=(
        _row("laptop", *GPUS),
        _row("laptop", *GPUS, **FIX),
        _row(*GPUS, max_retries="0"),
        _row("laptop", *GPUS, route="uncancelled"),
        _row("laptop", *GPUS, route="uncancelled", **FIX),
        _row(*GPUS, route="uncancelled", request_id="fixed", id_randomisation="off"),
        _row(*GPUS, route="uncancelled", id_randomisation="off", **FIX),
        _row("laptop", *GPUS, trigger="twice", request_id="fixed", id_randomisation="off"),
        _row("laptop", *GPUS, trigger="twice", request_id="fixed"),
        _row(*GPUS, trigger="stall"),
        _row(*GPUS, trigger="stall", max_retries="0"),
        _row(trigger="twice", request_id="fresh", id_randomisation="off"),
        _row(route="uncancelled", request_id="fresh", id_randomisation="off"),
        _row(route="uncancelled", request_id="fresh", id_randomisation="off", max_retries="0"),
        _row(request_id="fixed", id_randomisation="off"),
        _row(id_randomisation="off", **FIX),
        _row(openai="1.76.0"),
        _row(openai="1.76.0", **FIX),
        _row(trigger="twice", request_id="fixed", vllm="0.13.0"),
        _row(trigger="twice", request_id="fresh", vllm="0.13.0"),
        _row(route="uncancelled", request_id="fixed", vllm="0.13.0"),
        _row(route="uncancelled", request_id="fixed", vllm="0.13.0", max_retries="0"),
    ),
    describe=describe,
    expect=expect,
    requires=requires,
    launch=launch,
    oracle=oracle,
)
