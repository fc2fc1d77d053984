"""The rules that hold for every oracle, and the exit code, as tables."""

from __future__ import annotations

import dataclasses

import pytest

from harness.attempt import Attempt, FaultRecord, Judgement, Process
from harness.errors import ExitCode
from harness.events import ProcessKey
from harness.judge import NOT_UNDONE, Row, as_expected, findings, in_effect, judge_attempt, normalise
from harness.outcome import ExitStatus, Kind, StatusSource, Verdict, VerdictName
from harness.plan import Cell
from harness.run import exit_code

R, A, F, U, N = (
    VerdictName.REPRODUCED,
    VerdictName.ABSENT,
    VerdictName.OTHER_FAILURE,
    VerdictName.UNTESTABLE,
    VerdictName.NO_VERDICT,
)
CELL = Cell(scenario="s", id="s[a=1]", params={"a": "1"}, kind=Kind.NATIVE, expected=A)
GOOD = Attempt(cell=CELL.id, attempt=1, params=CELL.params, started_ns=0, end="exited", nonce=True)


def oracle_saying(name: VerdictName, **effective: str) -> Judgement:
    """Return what an oracle might."""
    return Judgement(verdict=Verdict(name=name, signature="sig"), effective=effective)


@pytest.mark.parametrize(
    ("said", "changes", "effective", "verdict"),
    [
        (A, {}, {}, A),
        (R, {}, {}, R),
        (A, {"nonce": False}, {}, F),
        (R, {"nonce": False}, {}, R),
        (F, {"nonce": False}, {}, F),
        (A, {"nonce": False, "end": "deadline"}, {}, F),
        (A, {"end": None}, {}, N),
        (F, {"end": None}, {}, N),
        (R, {"end": None}, {}, R),
        (A, {"end": "interrupted"}, {}, N),
        (R, {"end": "interrupted"}, {}, R),
        (A, {"end": "harness_error"}, {}, N),
        (R, {"end": "harness_error"}, {}, N),
        (A, {}, {"a": "1"}, A),
        (A, {}, {"a": "2"}, U),
        (R, {}, {"a": "2"}, U),
        (R, {}, {"b": "2"}, R),
        (A, {"skipped": Verdict(name=U)}, {}, U),
    ],
)
def test_rules_over_the_oracle(
    said: VerdictName, changes: dict[str, object], effective: dict[str, str], verdict: VerdictName
) -> None:
    """Nonce, cut records, interrupts, harness errors and effective parameters overrule what an oracle says."""
    attempt = dataclasses.replace(GOOD, **changes)  # type: ignore[arg-type]
    assert judge_attempt(CELL, attempt, lambda _: oracle_saying(said, **effective)).verdict.name is verdict


def test_a_crashing_oracle_and_a_missing_one_give_no_verdict() -> None:
    """Neither ends the run, and both say what happened."""

    def crash(_: Attempt) -> Judgement:
        raise KeyError("gone")

    assert judge_attempt(CELL, GOOD, crash).verdict.name is N
    assert "KeyError" in judge_attempt(CELL, GOOD, crash).verdict.reasons[0]
    assert judge_attempt(CELL, GOOD, None).verdict.name is N


@pytest.mark.parametrize(
    ("expected", "signature", "verdict", "said", "outcome"),
    [
        (A, None, A, None, True),
        (A, None, R, "x", False),
        (R, "SEGV", R, "SIGSEGV in worker", True),
        (R, "SEGV", R, "SIGABRT in worker", False),
        (R, None, N, None, False),
        (R, None, U, None, None),
        (None, None, R, "x", None),
    ],
)
def test_as_expected(
    expected: VerdictName | None, signature: str | None, verdict: VerdictName, said: str | None, outcome: bool | None
) -> None:
    """A verdict is compared with the declared one and its signature; untestable and undeclared are neither."""
    cell = Cell(scenario="s", id="i", params={}, kind=Kind.NATIVE, expected=expected, expected_signature=signature)
    assert as_expected(cell, Verdict(name=verdict, signature=said)) is outcome


@pytest.mark.parametrize(
    ("installed", "said", "found"),
    [
        ({"verl": "0.5.0"}, {}, "0.5.0"),
        ({}, {"verl": "0.5.0"}, "0.5.0"),
        ({"verl": "0.5.0+g1a2b3c4.dirty"}, {"verl": "0.5.0"}, "0.5.0+g1a2b3c4.dirty"),
        ({"verl": "0+g1a2b3c4"}, {"verl": "0.5.0"}, "0.5.0+g1a2b3c4"),
        ({"verl": "0.4.0"}, {"verl": "0.5.0"}, "0.5.0"),
        ({"verl": "2.0+g1"}, {"verl": "2.0+cpu"}, "2.0+cpu"),
    ],
)
def test_the_commit_of_a_checkout_stands_in_the_row(
    installed: dict[str, str], said: dict[str, str], found: str
) -> None:
    """A program tells its release; which commit of it lay on its path is known from outside alone."""
    assert in_effect(installed, said) == {"verl": found}


def row(verdict: VerdictName, expected: bool | None, cell: str = "c") -> Row:
    """Return a row of which only the verdict matters."""
    return Row(
        run="r", scenario="s", cell=cell, params={}, effective={}, kind=Kind.NATIVE, control_of=None, expected=None,
        verdict=verdict, as_expected=expected, signature=None, reasons=(), attempts=1, reproduced=0, rate=None,
        processes={}, findings=(), gpu={}, throughput=None, wall_s=0, evidence="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "needed", "code"),
    [
        ([row(A, True), row(R, True)], True, ExitCode.OK),
        ([row(A, True), row(R, False)], True, ExitCode.UNEXPECTED),
        ([row(N, False), row(R, False)], True, ExitCode.UNEXPECTED),
        ([row(N, False), row(A, True)], True, ExitCode.NO_VERDICT),
        ([row(N, None)], False, ExitCode.NO_VERDICT),
        ([row(U, None)], True, ExitCode.NO_VERDICT),
        ([row(U, None)], False, ExitCode.OK),
        ([row(R, None)], True, ExitCode.OK),
    ],
)
def test_exit_code_by_contract(rows: list[Row], needed: bool, code: ExitCode) -> None:
    """1 before 2 before 0; untestable counts only where a suite needs the cell."""
    cells = [Cell(scenario="s", id="c", params={}, kind=Kind.NATIVE, needed=needed)]
    assert exit_code(rows, cells) is code


def test_findings_name_deaths_orphans_and_unknown_statuses() -> None:
    """Each typed observation comes from the record; what our own steps caused is not held against the program."""

    def process(pid: int, status: ExitStatus, **more: object) -> Process:
        return Process(
            key=ProcessKey(pid, 1), ppid=1, parent=None, names=("VLLM::Worker",), claimed_by="parent", born_ns=0,
            died_ns=1, status=status, **more,  # type: ignore[arg-type]
        )  # fmt: skip

    segv = ExitStatus(signal="SIGSEGV", source=StatusSource.PIDFD)
    attempt = dataclasses.replace(
        GOOD,
        processes=(
            process(1, segv),
            process(2, segv, ended_by="fault:x"),
            process(3, ExitStatus()),
            process(4, ExitStatus(exit_code=0, source=StatusSource.PIDFD), orphaned_s=2.5),
            process(5, ExitStatus(exit_code=0, source=StatusSource.PIDFD), orphaned_s=0.5),
        ),
    )
    assert [(finding["finding"], finding["pid"]) for finding in findings(attempt)] == [
        ("signal_death", 1),
        ("status_unknown", 3),
        ("orphan", 4),
    ]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("at 0x7ffe12 in pid 4711", "at <addr> in pid <n>"),
        ("actor 3f2a9b1c0d5e died", "actor <id> died"),
        ("/tmp/cc-x/ray/session.log: no", "<path>: no"),
        ("shape [2, 512]", "shape [<n>, <n>]"),
    ],
)
def test_signatures_lose_what_differs_between_runs(text: str, same: str) -> None:
    assert normalise(text) == same


def test_a_fault_that_could_not_be_undone_is_told_with_every_verdict() -> None:
    """Its attempt is judged as it was; that the machine is not as before is a reason and a finding."""
    stays = FaultRecord(fault="slow", attempted_ns=0, confirmed=True, not_undone="not undone: busy")
    gone = FaultRecord(fault="stop", attempted_ns=0, confirmed=True, undone=True)
    attempt = dataclasses.replace(GOOD, faults=(stays, gone))
    verdict = judge_attempt(CELL, attempt, lambda _: oracle_saying(A)).verdict
    assert (verdict.name, verdict.reasons) == (A, ("fault slow not undone: busy",))
    assert findings(attempt) == [{"finding": NOT_UNDONE, "name": "slow", "reasons": ["not undone: busy"]}]
    assert findings(dataclasses.replace(GOOD, faults=(gone,))) == []
