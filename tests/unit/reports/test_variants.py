"""Variants of a workload side by side: failures as such, ratios with intervals, and no row left out."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.judge import Row
from harness.outcome import Kind, VerdictName
from harness.record import write_results
from reports.load import load_rows
from reports.variants import Field, Variants, _with_ratios, render, variants
from tests.unit.reports import sample


def field(table: Variants, line: tuple[str, ...], column: str) -> str:
    found = dict(table.lines)[line][table.columns.index(column)]
    return "; ".join(map(str, found))


def run_with(directory: Path, **tok_s: float | None) -> Path:
    """Record a run with these cells (``what_how``): passed with a rate, or failed."""
    cells = tuple(sample.cell(name.replace("_", "-"), kind=sample.CRASH.kind) for name in tok_s)
    sample.record(directory, run=f"20261122T000000Z-{directory.name}", cells=cells)
    rows = [
        sample.change(
            row,
            verdict=VerdictName.REPRODUCED if rate is None else VerdictName.ABSENT,
            signature="SIGABRT in worker" if rate is None else None,
            throughput=None if rate is None else {"output_tok_s": rate},
            attempts=1,
        )
        for row, rate in zip(load_rows(directory), tok_s.values(), strict=True)
    ]
    write_results(directory, [*rows])
    return directory


def test_a_failing_variant_stands_as_such_beside_the_rate_of_the_other(tmp_path: Path) -> None:
    """The table of the SGLang thread: crash before, tokens per second after."""
    run = run_with(tmp_path / "a", c4_before=None, c4_after=128.8, c8_before=None, c8_after=250.7)
    (table,) = variants([run], ["how"])
    assert (table.columns, table.down) == (("how=before", "how=after"), ("what",))
    assert field(table, ("c4",), "how=before") == "✗ SIGABRT in worker"
    assert field(table, ("c4",), "how=after") == "128.8 tok/s"
    assert field(table, ("c8",), "how=after") == "250.7 tok/s"


def test_variants_that_passed_have_a_ratio_to_the_first_one(tmp_path: Path) -> None:
    run = run_with(tmp_path / "a", c4_sync=100.0, c4_async=150.0, c8_sync=None, c8_async=50.0)
    (table,) = variants([run], ["how"])
    assert field(table, ("c4",), "how=async") == "150.0 tok/s ×1.50 (no interval: 1 and 1 attempts)"
    assert field(table, ("c8",), "how=async") == "50.0 tok/s", "a failure is nothing to compare with"


def test_a_ratio_of_repeated_attempts_has_an_interval() -> None:
    one = Field(row=_passed(), tok_s=(100.0, 102.0, 98.0))
    other = Field(row=_passed(), tok_s=(200.0, 204.0, 196.0))
    ((first,), (second,)) = _with_ratios([[one], [other]])
    assert first.ratio is None
    assert second.ratio is not None
    assert second.ratio.low is not None
    assert second.ratio.low < 2 < (second.ratio.high or 0)
    assert "better" in str(second)


def _passed() -> Row:
    return Row(
        run="r", scenario="sample", cell="c", params={}, effective={}, kind=Kind.NATIVE, control_of=None, expected=None,
        verdict=VerdictName.ABSENT, as_expected=None, signature=None, reasons=(), attempts=3, reproduced=0, rate=None,
        processes={}, findings=(), gpu={}, throughput=None, wall_s=1.0, evidence="",
    )  # fmt: skip


def test_no_row_is_left_out_whatever_became_of_it(run: Path) -> None:
    """Every verdict has a text, repeated ones their count, and each row is in exactly one field."""
    (table,) = variants([run], ["how"])
    fields = [one for _, line in table.lines for found in line for one in found]
    assert sorted(one.row.cell for one in fields) == sorted(cell.id for cell in sample.CELLS)
    texts = {one.row.params["what"]: str(one) for one in fields if one.row.params["how"] == "plain"}
    assert texts["flaky"] == "✗ orphaned EngineCore 2/3"
    assert texts["gpu"] == "untestable: needs a GPU"
    assert texts["never"].startswith("no_verdict: never started")


def test_two_runs_of_one_cell_stand_in_one_field(tmp_path: Path) -> None:
    runs = [run_with(tmp_path / "a", c4_new=100.0), run_with(tmp_path / "b", c4_new=110.0)]
    (table,) = variants(runs, ["how"])
    assert field(table, (), "how=new").startswith("100.0 tok/s; 110.0 tok/s ×1.10")


@pytest.mark.parametrize("form", ["table", "md"])
def test_a_table_says_what_is_the_same_everywhere(tmp_path: Path, form: str) -> None:
    text = render([run_with(tmp_path / "a", c4_old=None, c4_new=100.0)], ["how"], form)
    assert text.startswith("sample (what=c4)\n")
    assert "✗ SIGABRT in worker" in text


def test_csv_has_a_line_per_workload(tmp_path: Path) -> None:
    run = run_with(tmp_path / "a", c4_old=None, c8_new=100.0)
    lines = list(csv.reader(io.StringIO(render([run], ["how"], "csv"))))
    assert lines[0] == ["scenario", "what", "how=old", "how=new"]
    assert lines[1] == ["sample", "c4", "✗ SIGABRT in worker", "-"]
    assert lines[2] == ["sample", "c8", "-", "100.0 tok/s"]


def test_an_axis_that_no_row_has_is_refused_with_those_there_are(run: Path) -> None:
    with pytest.raises(UsageError, match="no row has the axis colour") as caught:
        variants([run], ["colour"])
    assert "how, what" in caught.value.hint
