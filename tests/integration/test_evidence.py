"""`make evidence` with real children: it can be stopped and goes on, and what it keeps agrees with the runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from benchmarks.evidence import collect
from harness.errors import ExitCode
from reports.trials import read_trials
from tests.toy import SCENARIO

CELLS = ("healthy", "grandchild_segv")
TOY = dataclasses.replace(SCENARIO, rows=tuple(row for row in SCENARIO.rows if row.params["behaviour"] in CELLS))
SILENT = dataclasses.replace(SCENARIO, rows=tuple(row for row in SCENARIO.rows if row.params["behaviour"] == "silent"))


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """Two attempts of each, then three: the two are not made again, and the table has all three."""
    folder, runs = tmp_path / "evidence", tmp_path / "runs"
    assert collect([TOY], "full", 2, folder, runs) == ExitCode.OK
    first = read_trials(folder / "full.jsonl")
    assert [trial.cell for trial in first] == [f"toy[behaviour={name}]" for name in CELLS] * 2
    assert collect([TOY], "full", 3, folder, runs) == ExitCode.OK
    trials = read_trials(folder / "full.jsonl")
    assert trials[:4] == first
    assert len(trials) == 6
    assert {trial.run for trial in trials} == {path.name for path in runs.iterdir()}
    page = (folder / "full.md").read_text()
    assert "| toy | behaviour=grandchild_segv | injected | reproduced | 3 | 3 | 3 | 44 to 100% |" in page
    assert "| toy | behaviour=healthy (control) | injected | absent | 3 | 3 | 0 | 0 to 56% |" in page


def test_a_cell_that_gives_no_verdict_is_left_alone_and_nothing_is_kept_of_it(tmp_path: Path) -> None:
    """An oracle that crashes says nothing about the stack; three attempts are enough to see that."""

    def crash(_: object) -> None:
        msg = "planned"
        raise LookupError(msg)

    broken = dataclasses.replace(SILENT, oracle=crash)  # type: ignore[arg-type]
    collect([broken], "full", 5, tmp_path / "evidence", tmp_path / "runs")
    assert read_trials(tmp_path / "evidence" / "full.jsonl") == []
    assert len(list((tmp_path / "runs").iterdir())) == 3
