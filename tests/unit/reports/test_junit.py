"""JUnit XML: accepted by the schemas, and a skip is never a pass."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema

from harness.outcome import Kind, VerdictName
from harness.record import write_results
from reports.junit import to_junit
from reports.load import load_rows
from tests.unit.reports import sample

SCHEMA = xmlschema.XMLSchema(Path(__file__).with_name("junit.xsd"))


@pytest.fixture
def suites(run: Path) -> dict[str, ET.Element]:
    """Return the suites of the sample by cell."""
    text = to_junit([run])
    SCHEMA.validate(text)
    return {suite.get("name", ""): suite for suite in ET.fromstring(text)}  # noqa: S314 - our own text


def tags(suite: ET.Element) -> list[str]:
    """Return what a suite's only case says of itself."""
    (case,) = suite.findall("testcase")
    return [part.tag for part in case if part.tag != "system-out"]


def test_each_row_has_the_outcome_of_its_expectation(suites: dict[str, ET.Element]) -> None:
    assert {name: tags(suite) for name, suite in suites.items()} == {
        sample.CRASH.id: [],
        sample.CONTROL.id: [],
        sample.WRONG.id: ["failure"],
        sample.INJECTED.id: [],
        sample.UNTESTABLE.id: ["skipped"],
        sample.NEVER.id: ["error"],
        sample.FLAKY.id: ["flakyFailure"],
    }


def test_the_kind_and_the_parameters_are_properties(suites: dict[str, ET.Element]) -> None:
    found = {p.get("name"): p.get("value") for p in suites[sample.INJECTED.id].iter("property")}
    assert (found["kind"], found["param.how"], found["effective.vllm"]) == ("injected", "injected", "0.32.0")


def test_attempts_that_went_otherwise_are_kept(suites: dict[str, ET.Element]) -> None:
    (kept,) = suites[sample.FLAKY.id].iter("flakyFailure")
    assert (kept.get("type"), kept.get("message")) == ("absent", "attempt 2: absent")
    found = {p.get("name"): p.get("value") for p in suites[sample.FLAKY.id].iter("property")}
    assert [found[f"attempt.{n}"] for n in (1, 2, 3)] == ["reproduced", "absent", "reproduced"]


def test_further_failures_of_a_failing_cell_are_reruns(tmp_path: Path) -> None:
    flaky = sample.cell("flaky", kind=Kind.PROVOKED, expected=VerdictName.ABSENT)
    text = to_junit([sample.record(tmp_path / "run", cells=(flaky,))])
    SCHEMA.validate(text)
    (suite,) = ET.fromstring(text)  # noqa: S314 - our own text
    assert tags(suite) == ["failure", "rerunFailure"]


def test_verdicts_that_do_not_add_up_are_not_told(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An oracle that has changed since the run must not put words into its record."""
    monkeypatch.setattr("reports.judged.oracles", dict)
    assert '<property name="attempt.1" value="unknown" />' in to_junit([run])


def test_text_that_xml_cannot_hold_is_replaced(tmp_path: Path) -> None:
    directory = sample.record(tmp_path / "run", cells=(sample.WRONG,))
    write_results(directory, [sample.change(row, reasons=("a\x00b\x1b[31m ]]>",)) for row in load_rows(directory)])
    text = to_junit([directory])
    SCHEMA.validate(text)
    assert "a\N{REPLACEMENT CHARACTER}b" in text
