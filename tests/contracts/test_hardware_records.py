"""The records of real hardware that are kept can be judged again, and come to the same: what the pages promise."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from harness.record import EVENTS, MANIFEST
from harness.run import judge_run
from reports.hardware import PACKED
from reports.load import load_rows
from scenarios.registry import all_scenarios

EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence"
RECORDS = sorted(path.parent.relative_to(EVIDENCE) for path in EVIDENCE.rglob(MANIFEST))


def test_there_are_records() -> None:
    assert len(RECORDS) >= 20


@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_a_kept_record_is_judged_as_it_was(record: Path, tmp_path: Path) -> None:
    """Whatever axes its scenario has got since; a run that was cut off has cells without a row besides."""
    run = tmp_path / "run"
    shutil.copytree(EVIDENCE / record, run)
    (run / EVENTS).write_bytes(gzip.decompress((run / PACKED).read_bytes()))
    kept = {row.cell: (row.verdict, row.signature) for row in load_rows(EVIDENCE / record)}
    _, rows = judge_run(run, list(all_scenarios()))
    again = {row.cell: (row.verdict, row.signature) for row in rows}
    assert {cell: again[cell] for cell in kept} == kept
