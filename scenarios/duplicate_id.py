"""One request id twice: with randomisation switched off, a duplicate kills vLLM's engine for everybody.

Since 0.14.0 vLLM makes ids of its own out of those that clients send; ``VLLM_DISABLE_REQUEST_ID_RANDOMIZATION=1`` takes
the client's as they are. A second request with an id that is being served then trips an assertion of the scheduler in
EngineCore, which handles it nowhere: the engine dies, and with it every other request.
"""

from __future__ import annotations

from harness.attempt import Attempt, Judgement
from harness.outcome import Kind, Verdict, VerdictName
from harness.spec import Axis, Description, Environment, Expectation, Launch, Params, Reference, Row, Scenario
from scenarios.needs import missing_vllm

SIGNATURE = "AssertionError: duplicate request id"
OFF = "VLLM_DISABLE_REQUEST_ID_RANDOMIZATION"


def describe(params: Params) -> Description:
    """A caller sends one id twice; with randomisation, or with two ids, that is the control."""
    if params["request_id"] == "same" and params["randomisation"] == "off":
        return Description(kind=Kind.PROVOKED)
    return Description(kind=Kind.PROVOKED, control_of={**params, "request_id": "same", "randomisation": "off"})


def expect(params: Params, environment: Environment) -> Expectation | None:
    """The scheduler asserts that an id is new; with randomisation every id is."""
    del environment
    if params["randomisation"] == "inherited":
        return None
    if params["randomisation"] == "off" and params["request_id"] == "same":
        reason = (
            "Scheduler.add_request asserts that the id is new, and EngineCore does not guard it (vLLM 0.15.1 and on)"
        )
        return Expectation(verdict=VerdictName.REPRODUCED, reason=reason, signature=SIGNATURE)
    reason = "the ids that reach the scheduler differ"
    return Expectation(verdict=VerdictName.ABSENT, reason=reason)


def launch(params: Params, environment: Environment) -> Launch:
    """Run the program; ``inherited`` leaves the variable as it is, which a bisection over knobs needs."""
    del environment
    values = {"off": {OFF: "1"}, "on": {OFF: "0"}, "inherited": {}}
    return Launch(
        module="scenarios.programs.duplicate_id", env=values[params["randomisation"]], expected_s=40, deadline_s=240
    )


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when the engine said the assertion and is gone, while the first answer was being decoded."""
    answers, second = attempt.mark("answers"), attempt.mark("second_request")
    if answers is None or second is None:
        return Judgement(verdict=Verdict(name=VerdictName.OTHER_FAILURE, signature="no requests"))
    if not (second.data["first_running"] and second.data["engine"]):
        reason = "the first request was not being served when the second one came"
        return Judgement(verdict=Verdict(name=VerdictName.UNTESTABLE, reasons=(reason,)))
    seen = f"first: {answers.data['first']}; second: {answers.data['second']}; healthy: {answers.data['healthy']}"
    if SIGNATURE in answers.data["said"] and not answers.data["engine"]:
        return Judgement(verdict=Verdict(name=VerdictName.REPRODUCED, signature=SIGNATURE, reasons=(seen,)))
    if answers.data["first"] == answers.data["second"] == "answered" and answers.data["healthy"]:
        return Judgement(verdict=Verdict(name=VerdictName.ABSENT, reasons=("both requests were answered",)))
    said = "; ".join(answers.data["said"]) or "a request was not answered"
    return Judgement(verdict=Verdict(name=VerdictName.OTHER_FAILURE, signature=said, reasons=(seen,)))


def _row(**params: str) -> Row:
    return Row(params=params, suites=frozenset({"full"}))


SCENARIO = Scenario(
    name="duplicate_id",
    title="Two requests with one id kill vLLM's engine",
    references=(
        Reference(name="verl#1138", url="https://github.com/volcengine/verl/pull/1138"),
        Reference(
            name="vllm scheduler", url="https://github.com/vllm-project/vllm/blob/main/vllm/v1/core/sched/scheduler.py"
        ),
    ),
    axes=(
        Axis(
            name="randomisation",
            values=("off", "on", "inherited"),
            doc="of ids by vLLM; inherited: untouched",
            shown=True,
        ),
        Axis(name="request_id", values=("same", "fresh"), doc="X-Request-Id of the second request", shown=True),
        Axis(name="prefix_caching", values=("on", "off"), doc="of vLLM"),
        Axis(name="chunked_prefill", values=("on", "off"), doc="of vLLM"),
        Axis(name="max_num_seqs", values=("16", "8"), doc="of vLLM"),
    ),
    rows=(
        _row(),
        _row(randomisation="on"),
        _row(request_id="fresh"),
    ),
    describe=describe,
    expect=expect,
    requires=lambda params, environment: missing_vllm(environment) if params else None,
    launch=launch,
    oracle=oracle,
)
