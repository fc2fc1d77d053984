"""Committed evidence: what is kept, what is still missing, and the rates that follow."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from harness.judge import Row
from harness.outcome import Kind, VerdictName
from reports.trials import Trial, from_row, keep, missing, rates, read_trials, stack_of

STACK = {"ray": "2.60.0", "torch": "2.13.0"}
FAILED = Trial(
    scenario="toy",
    cell="toy[a=1,b=2]",
    kind=Kind.PROVOKED,
    verdict=VerdictName.REPRODUCED,
    expected=VerdictName.REPRODUCED,
    as_expected=True,
    wall_s=3.0,
    stack=STACK,
    machine="Linux 6.18, 2 cores, Python 3.11.7",
)
PASSED = msgspec.structs.replace(
    FAILED, cell="toy[a=2]", verdict=VerdictName.ABSENT, expected=VerdictName.ABSENT, control_of="toy[a=1,b=2]"
)
SAID = "/home/me/.venv/bin/python -m server (pid 7) lived, see https://example.invalid/a/b"
UNLUCKY = msgspec.structs.replace(FAILED, verdict=VerdictName.NO_VERDICT, as_expected=False)
MISSED = msgspec.structs.replace(FAILED, verdict=VerdictName.ABSENT, as_expected=False)


def test_kept_lines_are_read_back_and_a_cut_one_is_lost_alone(tmp_path: Path) -> None:
    """Whoever collects may be killed in the middle of a line; the next one begins where the last whole one ended."""
    path = tmp_path / "new" / "laptop.jsonl"
    assert read_trials(path) == []
    keep(path, FAILED)
    keep(path, PASSED)
    with path.open("ab") as stream:
        stream.write(b'{"scenario":"toy","cel')
    assert read_trials(path) == [FAILED, PASSED]
    keep(path, MISSED)
    assert read_trials(path) == [FAILED, PASSED, MISSED]


@pytest.mark.parametrize(
    ("done", "repeat", "todo"),
    [
        ([], 2, ["x", "y", "x", "y"]),
        (["x"], 2, ["y", "x", "y"]),
        (["x", "x", "x"], 2, ["y", "y"]),
        (["x", "y", "x", "y"], 2, []),
        (["gone"], 1, ["x", "y"]),
    ],
)
def test_the_cells_take_turns_until_each_has_its_attempts(done: list[str], repeat: int, todo: list[str]) -> None:
    trials = [msgspec.structs.replace(FAILED, cell=cell) for cell in done]
    assert missing(trials, ["x", "y"], STACK, repeat) == todo


def test_attempts_on_another_stack_or_without_a_verdict_are_made_again() -> None:
    other = msgspec.structs.replace(FAILED, stack={"ray": "2.61.0"})
    assert missing([other, UNLUCKY], [FAILED.cell], STACK, 1) == [FAILED.cell]
    assert missing([other, UNLUCKY, MISSED], [FAILED.cell], STACK, 1) == []


def test_rates_have_intervals_and_count_what_was_not_expected() -> None:
    """Ten of ten is not certainty; attempts without a verdict are in no rate."""
    page = rates([FAILED] * 10 + [PASSED] * 10 + [UNLUCKY])
    assert "| toy | a=1 b=2 | provoked | reproduced | 10 | 10 | 10 | 72 to 100% | 3.0 |" in page
    assert "| toy | a=2 (control) | provoked | absent | 10 | 10 | 0 | 0 to 28% | 3.0 |" in page
    assert "| 10 | 9 | 9 | 60 to 98% |" in rates([FAILED] * 9 + [MISSED])
    assert rates([FAILED, msgspec.structs.replace(FAILED, stack={})]).count("\n## ") == 2


def test_what_is_kept_of_a_row_says_who_died_and_on_what() -> None:
    row = Row(
        run="20261121T000000Z-abcdef", scenario="toy", cell="toy[a=1]", params={"a": "1"},
        effective={"executor": "mp", "patches": []}, kind=Kind.NATIVE, control_of=None, expected=None,
        verdict=VerdictName.REPRODUCED, as_expected=None, signature="SIGSEGV", attempts=1,
        reasons=(SAID, *("x" * 999,) * 9), reproduced=1, rate=None, wall_s=1.5, evidence="", gpu={}, throughput=None,
        processes={
            "seen": 5, "status_known": 4, "orphans": [], "left_behind": [],
            "signal_deaths": [{"role": "worker", "signal": "SIGSEGV"}],
        },
        findings=({"finding": "signal_death"}, {"finding": "orphan"}, {"finding": "orphan"}),
    )  # fmt: skip
    packages = {"ray": "2.60.0", "numpy": "2"}
    trial = from_row(row, {"packages": packages, "kernel": "6.18.44-generic", "cores": 2, "python": "3.11.7"}, "0.1.0")
    assert trial.deaths == ("worker SIGSEGV",)
    assert trial.findings == ("orphan", "signal_death")
    assert trial.status_known == (4, 5)
    assert trial.effective == {"executor": "mp"}
    assert (trial.stack, trial.machine) == ({"ray": "2.60.0"}, "Linux 6.18, 2 cores, Python 3.11.7")
    assert stack_of(packages) == trial.stack
    assert sum(map(len, trial.reasons)) <= 1200
    assert trial.reasons[0] == "python -m server (pid 7) lived, see https://example.invalid/a/b"
