"""The one file does what the scenario's program does: it starts modules by their names, and takes signals back."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.attempt import Attempt, Judgement
from harness.outcome import Verdict, VerdictName
from harness.spec import Environment, Expectation, Fault, Launch, Params, SendSignal
from reports.vendor.reproducer import Variant, write_reproducer
from tests.toy import SCENARIO
from tests.unit.vendor.test_reproducer import row_of

MODULE = r".* -m tests\.programs\.ticker"
QUIET_S = 0.9
STOP = Fault(
    name="stop_ticker", action=SendSignal(signal="SIGSTOP", target=MODULE), at="ticking", lasts_s=QUIET_S + 0.1
)


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced when nothing ticked for as long as the ticker was stopped, although it came to its end."""
    ticked = attempt.mark("ticked")
    if ticked is None or ticked.data["code"] != 0 or not attempt.named(MODULE):
        return Judgement(verdict=Verdict(name=VerdictName.OTHER_FAILURE, signature="nothing ticked"))
    quiet = float(ticked.data["longest"]) >= QUIET_S
    undone = all(fault.confirmed and fault.undone for fault in attempt.faults)
    name = VerdictName.REPRODUCED if quiet and undone else VerdictName.ABSENT
    return Judgement(verdict=Verdict(name=name, signature="quiet" if quiet else None))


def expect(params: Params, environment: Environment) -> Expectation | None:
    """Nothing: what is tested is the file."""
    del params, environment
    return None


@pytest.mark.parametrize(("faults", "code", "word"), [((STOP,), 1, "FAILURE SHOWN"), ((), 0, "PASSED")])
def test_a_module_started_by_its_name_is_stopped_and_goes_on(
    tmp_path: Path, faults: tuple[Fault, ...], code: int, word: str
) -> None:
    scenario = dataclasses.replace(SCENARIO, oracle=oracle, expect=expect)
    launch = Launch(module="tests.programs.starter", faults=faults, deadline_s=30)
    text = write_reproducer(scenario, Variant(row=row_of(scenario), launch=launch), None, "nothing")
    (tmp_path / "reproduce.py").write_text(text)
    shown = subprocess.run(
        [sys.executable, "reproduce.py"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode == code, shown.stdout + shown.stderr
    assert word in shown.stdout
    assert ("SIGCONT sent to" in shown.stdout) == bool(faults)
