"""A scenario whose verdict is that of a release of a package, for tests of nightlies with real processes."""

from __future__ import annotations

from harness.attempt import Attempt, Judgement
from harness.outcome import Kind, Verdict, VerdictName
from harness.spec import Axis, Description, Launch, Reference, Row, Scenario


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when the program says that the release is broken."""
    seen = attempt.mark("seen")
    if seen is None:
        return Judgement(verdict=Verdict(name=VerdictName.OTHER_FAILURE, signature="nothing said"))
    effective = {"probe": str(seen.data["version"])}
    throughput = {"output_tok_s": float(seen.data["tok_s"])}
    if seen.data["broken"]:
        verdict = Verdict(name=VerdictName.REPRODUCED, signature="broken probe", reasons=("the release says so",))
    else:
        verdict = Verdict(name=VerdictName.ABSENT)
    return Judgement(verdict=verdict, effective=effective, throughput=throughput)


SCENARIO = Scenario(
    name="versioned",
    title="A program that fails with some releases of a package",
    references=(Reference(name="none", url="https://example.invalid"),),
    axes=(
        Axis(name="probe", values=("installed",), doc="release of a small package", package="ccprobe", shown=True),
        Axis(name="other", values=("installed",), doc="release of another package", package="ccother"),
        Axis(name="shard", values=("0", "1", "2"), doc="several cells", shown=True),
        Axis(name="slow", values=("no", "yes"), doc="takes seconds"),
    ),
    rows=(Row(params={}, suites=frozenset({"full"})),),
    describe=lambda params: Description(kind=Kind.INJECTED),  # noqa: ARG005 - the same for all
    expect=lambda params, environment: None,  # noqa: ARG005 - nothing is declared: the history is the expectation
    requires=lambda params, environment: None,  # noqa: ARG005 - runs anywhere
    launch=lambda params, environment: Launch(  # noqa: ARG005 - as it is
        module="tests.programs.versioned",
        overlays={"ccprobe": params["probe"], "ccother": params["other"]},
        deadline_s=60,
        expected_s=1,
    ),
    oracle=oracle,
)
