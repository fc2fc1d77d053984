"""Comparison of two runs: flips first, nothing lost, nothing unlike averaged."""

from __future__ import annotations

import csv
import io
import json
from math import isclose
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judge import Row
from harness.outcome import Kind, VerdictName
from harness.record import write_results
from reports.compare import Comparison, Group, _wilson, compare, difference, group_of, ratio, share
from reports.compare_formats import PRINTERS, to_markdown
from reports.load import load_rows
from tests.unit.reports import sample


@pytest.fixture
def pair(run: Path, tmp_path: Path) -> Comparison:
    """Compare the sample with a run in which CRASH is fixed, CONTROL is gone, and one cell is new."""
    new = sample.cell("new", kind=Kind.NATIVE)
    cells = (*(cell for cell in sample.CELLS if cell is not sample.CONTROL), new)
    other = sample.record(tmp_path / "b", run="20261122T000000Z-other", cells=cells, versions={"vllm": "0.33.0"})
    rows = [_fixed(row) if row.cell == sample.CRASH.id else row for row in load_rows(other)]
    write_results(other, [*rows])
    return compare(run, other)


def _fixed(row: Row) -> Row:
    return sample.change(row, verdict=VerdictName.ABSENT, reproduced=0, rate=_wilson(0, 1), signature=None)


def test_flips_come_first_and_no_row_is_lost(pair: Comparison) -> None:
    groups = [one.group for one in pair.pairs]
    assert groups == sorted(groups, key=list(Group).index)
    assert (pair.pairs[0].cell, pair.pairs[0].group, pair.flips) == (sample.CRASH.id, Group.FLIP, 1)
    found = {one.cell: one.group for one in pair.pairs}
    assert found[sample.CONTROL.id] is Group.ONLY_A
    assert found["sample[what=new,how=plain]"] is Group.ONLY_B
    assert len(found) == len(sample.CELLS) + 1


def test_a_flip_has_no_ratio_but_a_rate(pair: Comparison) -> None:
    """The time of a crash and the time of a success are unlike things."""
    flip = pair.pairs[0]
    assert (flip.wall, flip.tokens) == (None, None)
    assert flip.rate is not None
    assert flip.rate.value == -1


def test_only_attempts_with_the_verdict_of_their_row_are_compared(pair: Comparison) -> None:
    (flaky,) = (one for one in pair.pairs if one.cell == sample.FLAKY.id)
    assert flaky.wall is not None
    assert flaky.wall.attempts == (2, 2)
    assert isclose(flaky.wall.value, 1)


def test_the_header_says_what_differs(pair: Comparison) -> None:
    assert ("environment.versions.vllm", "0.32.0", "0.33.0") in pair.differing_facts()
    assert all("kernel" not in name for name, _, _ in pair.differing_facts())


@pytest.mark.parametrize("form", list(PRINTERS))
def test_every_format_holds_every_cell(pair: Comparison, form: str) -> None:
    text = PRINTERS[form](pair)
    for one in pair.pairs:
        assert one.cell in text
    assert "verdict flip" in text


def test_the_formats_can_be_read_back(pair: Comparison) -> None:
    lines = [json.loads(line) for line in PRINTERS["json"](pair).splitlines()]
    assert lines[0]["a"]["verdict"] == "reproduced"
    table = list(csv.DictReader(io.StringIO(PRINTERS["csv"](pair))))
    assert [line["change"] for line in table] == [one.group.value for one in pair.pairs]


def test_markdown_keeps_to_its_limit_and_counts_what_is_left_out(pair: Comparison) -> None:
    text = to_markdown(pair, 2500)
    assert len(text.encode()) <= 2500
    assert "more rows do not fit here" in text
    assert sample.CRASH.id in text


def test_what_could_not_be_tested_is_no_flip(run: Path) -> None:
    row = load_rows(run)[0]
    for verdict in (VerdictName.UNTESTABLE, VerdictName.NO_VERDICT):
        assert group_of(row, sample.change(row, verdict=verdict)) is Group.NOT_COMPARABLE
    assert group_of(row, sample.change(row, kind=Kind.INJECTED)) is Group.NOT_COMPARABLE
    assert group_of(row, sample.change(row, signature="other")) is Group.SIGNATURE


@given(st.lists(st.floats(0.1, 1e4), min_size=2, max_size=9), st.lists(st.floats(0.1, 1e4), min_size=2, max_size=9))
def test_the_interval_holds_its_ratio_and_turns_with_its_sides(a: list[float], b: list[float]) -> None:
    there, back = ratio(a, b, higher_is_better=True), ratio(b, a, higher_is_better=True)
    assert there is not None
    assert back is not None
    assert there.low is not None
    assert there.high is not None
    assert there.low <= there.value * (1 + 1e-9)
    assert there.value <= there.high * (1 + 1e-9)
    assert isclose(there.value * back.value, 1, rel_tol=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "direction"),
    [([10, 11, 10], [20, 21, 20], "worse"), ([20, 21, 20], [10, 11, 10], "better"), ([10, 30], [11, 29], "unclear")],
)
def test_the_direction_is_stated(a: list[float], b: list[float], direction: str) -> None:
    slower = ratio(a, b, higher_is_better=False)
    assert slower is not None
    assert slower.direction == direction
    assert direction in str(slower)


def test_one_attempt_gives_no_interval_and_says_so() -> None:
    only = ratio([1.0], [2.0], higher_is_better=True)
    assert str(only) == "×2.00 (no interval: 1 and 1 attempts)"
    assert ratio([], [1.0], higher_is_better=True) is None
    assert ratio([0.0], [1.0], higher_is_better=True) is None


def test_welch_agrees_with_a_worked_example() -> None:
    """Logs 0, ln 2 against ln 2, ln 4: difference ln 2, variances (ln 2)²/2 each, 2 degrees of freedom."""
    worked = ratio([1, 2], [2, 4], higher_is_better=True)
    assert worked is not None
    assert worked.high is not None
    assert isclose(worked.value, 2)
    assert isclose(worked.high, 2 ** (1 + 4.303 * 0.5**0.5), rel_tol=1e-3)


def test_newcombe_agrees_with_the_published_example(run: Path) -> None:
    """56 of 70 against 48 of 80: 0.20, from 0.0524 to 0.3339 (Newcombe 1998, table II, method 10)."""
    row = load_rows(run)[0]
    a = sample.change(row, attempts=80, reproduced=48, rate=_wilson(48, 32))
    b = sample.change(row, attempts=70, reproduced=56, rate=_wilson(56, 14))
    assert (share(a), share(b)) == (0.6, 0.8)
    found = difference(a, b)
    assert found is not None
    assert isclose(found.value, 0.2)
    assert isclose(found.low, 0.0524, abs_tol=5e-4)
    assert isclose(found.high, 0.3339, abs_tol=5e-4)
