"""What counts and what does not, and what counts are worth."""

from __future__ import annotations

import pytest

from harness.attempt import Attempt, Judgement, Mark, Process
from harness.bisect.command import CommandSpec, command_scenario, oracle
from harness.bisect.decide import Counts, Observation, Phase, broken, observe, skipped, tally
from harness.bisect.rates import DEFAULT, Known
from harness.bisect.trust import fisher, pairs_needed, passes_needed, runs_to_see, suspicions
from harness.events import ProcessKey
from harness.judge import Row, judge_attempt
from harness.outcome import ExitStatus, Kind, StatusSource, VerdictName
from harness.plan import Cell

V = VerdictName


def seen(
    verdict: VerdictName, position: int = 5, signature: str | None = None, phase: Phase = Phase.SEARCH
) -> Observation:
    return Observation(number=1, position=position, name="v", phase=phase, verdict=verdict, signature=signature)


REFERENCE = seen(V.REPRODUCED, 9, "SIGSEGV", Phase.BAD_END)


@pytest.mark.parametrize(
    ("verdict", "signature", "counts"),
    [
        (V.REPRODUCED, "SIGSEGV", Counts(1, 0)),
        (V.REPRODUCED, "SIGBUS", None),
        (V.ABSENT, None, Counts(0, 1)),
        (V.OTHER_FAILURE, "no nonce:exit 137", None),
        (V.UNTESTABLE, None, None),
        (V.NO_VERDICT, None, None),
    ],
)
def test_only_two_verdicts_count(verdict: VerdictName, signature: str | None, counts: Counts | None) -> None:
    assert tally([REFERENCE, seen(verdict, signature=signature)], None).get(5) == counts


@pytest.mark.parametrize("code", [124, 134, 137, 139, 1, 2, 255])
@pytest.mark.parametrize("end", ["exited", "deadline"])
def test_no_exit_code_of_a_scenario_counts_by_itself(code: int, end: str) -> None:
    """Without the nonce the attempt is another failure, whatever the code: neither bad, nor good, nor the end."""
    process = Process(
        key=ProcessKey(pid=7, start=1), ppid=1, parent=None, names=("python",), claimed_by="root", born_ns=0, died_ns=9,
        status=ExitStatus(exit_code=code, source=StatusSource.WAITPID),
    )  # fmt: skip
    attempt = Attempt(cell="c", attempt=1, params={}, started_ns=0, end=end, processes=(process,))
    cell = Cell(scenario="s", id="c", params={}, kind=Kind.NATIVE)

    def absent(_: Attempt) -> Judgement:
        from harness.outcome import Verdict

        return Judgement(verdict=Verdict(name=V.ABSENT))

    assert judge_attempt(cell, attempt, absent).verdict.name is V.OTHER_FAILURE


@pytest.mark.parametrize(
    ("how", "pattern", "matched", "verdict"),
    [
        ("exit 0", None, None, V.ABSENT),
        ("exit 1", None, None, V.REPRODUCED),
        ("exit 1", "lost", None, V.OTHER_FAILURE),
        ("exit 1", "lost", "lost update", V.REPRODUCED),
        ("exit 0", "lost", "lost update", V.REPRODUCED),
        ("exit 125", None, None, V.UNTESTABLE),
        ("exit 124", None, None, V.OTHER_FAILURE),
        ("exit 134", None, None, V.OTHER_FAILURE),
        ("exit 137", None, None, V.OTHER_FAILURE),
        ("exit 139", None, None, V.OTHER_FAILURE),
        ("SIGSEGV", None, None, V.OTHER_FAILURE),
        ("not started: No such file or directory", None, None, V.OTHER_FAILURE),
    ],
)
def test_a_command_is_judged_by_the_stated_failure(
    how: str, pattern: str | None, matched: str | None, verdict: VerdictName
) -> None:
    ended = Mark(name="ended", pid=1, t_ns=0, data={"how": how, "pattern": pattern, "matched": matched})
    attempt = Attempt(cell="c", attempt=1, params={}, started_ns=0, end="exited", nonce=True, marks=(ended,))
    assert oracle(attempt).verdict.name is verdict
    assert oracle(Attempt(cell="c", attempt=1, params={}, started_ns=0, end="exited")).verdict.name is V.OTHER_FAILURE


def test_a_command_is_an_ordinary_scenario() -> None:
    scenario = command_scenario(CommandSpec(argv=("true",), deadline_s=5))
    assert scenario.cell_id({}) == "command[]"


def test_skips_need_a_reason_that_holds() -> None:
    other = seen(V.OTHER_FAILURE, 3, "no nonce:SIGKILL")
    assert skipped([other], None) == {}
    assert skipped([other, other], None) == {3: "fails in another way: no nonce:SIGKILL"}
    assert skipped([other, other, seen(V.ABSENT, 3)], None) == {}
    assert list(skipped([seen(V.UNTESTABLE, 4)], None)) == [4]
    assert skipped([seen(V.NO_VERDICT, 4)] * 9, None) == {}


def test_a_machine_is_broken_after_three_runs_without_a_verdict() -> None:
    assert broken([seen(V.NO_VERDICT)] * 2) is None
    assert broken([*[seen(V.NO_VERDICT)] * 2, seen(V.ABSENT)]) is None
    assert broken([seen(V.NO_VERDICT)] * 3) is not None


@pytest.mark.parametrize(
    ("more", "less", "p"),
    [
        (Counts(3, 0), Counts(0, 3), 1 / 20),
        (Counts(4, 0), Counts(0, 4), 1 / 70),
        (Counts(3, 1), Counts(1, 3), 17 / 70),  # Fisher's lady tasting tea
        (Counts(0, 5), Counts(0, 5), 1.0),
        (Counts(), Counts(), 1.0),
    ],
)
def test_fisher(more: Counts, less: Counts, p: float) -> None:
    assert fisher(more, less) == pytest.approx(p)


def test_as_many_pairs_as_the_rate_needs() -> None:
    assert [pairs_needed(rate) for rate in (1.0, 0.5, 0.01)] == [3, 12, 30]
    assert [runs_to_see(rate) for rate in (1.0, 0.5, 0.2)] == [1, 5, 14]


def test_the_good_end_is_run_as_often_as_the_rate_needs() -> None:
    assert passes_needed(Known(1.0), Counts(1, 0)) == 1
    assert passes_needed(Known(0.2), Counts(1, 0)) == 14
    assert (
        passes_needed(DEFAULT, Counts(3, 0))
        < passes_needed(DEFAULT, Counts(3, 3))
        < passes_needed(DEFAULT, Counts(3, 12))
    )


def test_what_is_suspicious_is_said() -> None:
    confirmed = (Counts(4, 0), Counts(0, 4))
    counts = {9: Counts(8, 0), 8: Counts(0, 8), 20: Counts(1, 0)}
    assert suspicions(culprit=9, counts=counts, culprit_hash="a", parent_hash="b", confirmed=confirmed) == ()
    same = suspicions(culprit=9, counts=counts, culprit_hash="a", parent_hash="a", confirmed=confirmed)
    assert "the same artefact" in same[0]
    unsure = suspicions(
        culprit=9, counts=counts, culprit_hash=None, parent_hash=None, confirmed=(Counts(1, 3), Counts(0, 4))
    )
    assert "do not tell culprit and parent apart" in unsure[0]
    waves = suspicions(
        culprit=9, counts=counts | {30: Counts(0, 6)}, culprit_hash=None, parent_hash=None, confirmed=confirmed
    )
    assert "more than one transition" in waves[0]
    early = suspicions(
        culprit=9, counts=counts | {3: Counts(1, 0)}, culprit_hash=None, parent_hash=None, confirmed=confirmed
    )
    assert "not monotone" in early[0]


def test_an_observation_is_what_the_row_says() -> None:
    row = Row(
        run="r", scenario="s", cell="c", params={}, effective={}, kind=Kind.NATIVE, control_of=None, expected=None,
        verdict=V.REPRODUCED, as_expected=None, signature="SIGSEGV", reasons=("why", "more"), attempts=1, reproduced=1,
        rate=None, processes={}, findings=(), gpu={}, throughput=None, wall_s=2.5, evidence="cells/c/1",
    )  # fmt: skip
    one = observe(row, number=4, position=2, name="v2", phase=Phase.SEARCH)
    assert (one.verdict, one.signature, one.reason, one.wall_s) == (V.REPRODUCED, "SIGSEGV", "why", 2.5)
