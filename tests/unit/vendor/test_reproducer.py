"""Reproducers are whole, and know nothing of crashcart; that they reproduce is shown on the real stacks."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys

import pytest

from harness import attempt, outcome
from harness.judge import CRASHES, Row
from harness.outcome import VerdictName
from harness.probes.machine import read_environment
from harness.spec import Environment, Fault, FillShm, Launch, Scenario
from reports.redaction.names import Names
from reports.redaction.redactor import Redactor
from reports.vendor import standalone
from reports.vendor.reproducer import UNSEEN, Variant, control_for, variant, write_reproducer
from reports.vendor.source import NotStandaloneError
from scenarios.registry import OURS

ENVIRONMENT = read_environment()
FAILING = [
    one
    for one in OURS
    if any(
        (said := one.expect(one.complete(row.params), ENVIRONMENT)) and said.verdict.value == "reproduced"
        for row in one.rows
    )
]
REFUSED = {
    "dp_ep_deadlock": "its oracle reads stuck_in, suspicions,",
    "nccl_destroy": "its oracle reads standing, suspicions,",
    "shm_stall": "its oracle reads suspicions,",
}
"""What only a supervisor sees: a hang, and where it stands."""


def row_of(scenario: Scenario, number: int = 0) -> Row:
    """Return a row as a run of the scenario's cell would leave it."""
    params = scenario.complete(scenario.rows[number].params)
    description = scenario.describe(params)
    expected = scenario.expect(params, ENVIRONMENT)
    verdict = expected.verdict if expected else VerdictName.OTHER_FAILURE
    return Row(
        run="r", scenario=scenario.name, cell=scenario.cell_id(params), params=params, effective={},
        kind=description.kind,
        control_of=scenario.cell_id(description.control_of) if description.control_of else None, expected=verdict,
        verdict=verdict, as_expected=True, signature=None, reasons=(), attempts=1, reproduced=1, rate=None,
        processes={}, findings=(), gpu={}, throughput=None, wall_s=1.0, evidence="",
    )  # fmt: skip


def reproducer(scenario: Scenario) -> str:
    rows = [row_of(scenario, number) for number in range(len(scenario.rows))]
    failing = next(row for row in rows if row.verdict is VerdictName.REPRODUCED)
    control = control_for(failing, rows, scenario, ENVIRONMENT)
    twin = variant(scenario, control, ENVIRONMENT) if control else None
    return write_reproducer(scenario, variant(scenario, failing, ENVIRONMENT), twin, "pip install x")


@pytest.mark.parametrize("scenario", [one for one in FAILING if one.name not in REFUSED], ids=lambda one: one.name)
def test_it_is_one_whole_file_that_imports_nothing_of_ours(scenario: Scenario) -> None:
    text = reproducer(scenario)
    tree = ast.parse(text)
    names = [
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    assert {"harness", "scenarios", "reports"}.isdisjoint(names)
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("scenario", [one for one in FAILING if one.name not in REFUSED], ids=lambda one: one.name)
def test_redaction_leaves_a_reproducer_as_it_was_written(scenario: Scenario) -> None:
    """Code that was taken for the name of a machine would not run on the vendor's."""
    text = reproducer(scenario)
    assert Redactor({}, Names(None)).redact(text) == text


@pytest.mark.parametrize("name", ["Attempt", "Process", "Mark", "FaultRecord", "Judgement"])
def test_the_stand_ins_have_the_fields_that_oracles_may_read(name: str) -> None:
    ours, theirs = getattr(standalone, name), getattr(attempt, name)
    missing = {field.name for field in dataclasses.fields(theirs)} - {field.name for field in dataclasses.fields(ours)}
    assert missing - {"skipped", "claimed_by"} == set()
    methods = {one for one, value in vars(theirs).items() if callable(value) or isinstance(value, property)}
    assert {one for one in methods if not one.startswith("_")} - {*UNSEEN} <= vars(ours).keys()


def test_the_stand_ins_use_the_same_words() -> None:
    assert {one.value for one in standalone.VerdictName} == {one.value for one in outcome.VerdictName}
    assert standalone.CRASHES == CRASHES


def test_a_fault_that_one_file_cannot_do_is_said() -> None:
    scenario = OURS[0]
    row = row_of(scenario)
    launch = Launch(module="scenarios.programs.actor_gc", faults=(Fault(name="full", action=FillShm()),))
    with pytest.raises(NotStandaloneError, match="full is more than a signal"):
        write_reproducer(scenario, Variant(row=row, launch=launch), None, "")


@pytest.mark.parametrize(("name", "reason"), REFUSED.items(), ids=REFUSED)
def test_an_oracle_that_reads_stacks_or_hangs_is_refused_and_not_given_nothing_to_read(name: str, reason: str) -> None:
    scenario = next(one for one in OURS if one.name == name)
    with pytest.raises(NotStandaloneError, match=reason):
        reproducer(scenario)


def test_the_nearest_control_needs_the_same_packages() -> None:
    """0.4.0 is a control of actor_gc, too, but one file can have one release of verl only."""
    scenario = next(one for one in OURS if one.name == "actor_gc")
    rows = [row_of(scenario, number) for number in range(len(scenario.rows))]
    environment: Environment = ENVIRONMENT
    control = control_for(rows[0], rows[::-1], scenario, environment)
    assert control is not None
    assert control.params["verl"] == rows[0].params["verl"]
