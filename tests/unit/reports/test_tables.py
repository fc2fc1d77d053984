"""Markdown that fits, files of a run directory, and the command line of reports."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.main import cli
from harness.errors import UsageError
from reports.formats import died_of, rerun, summary, to_csv, to_json
from reports.load import load_rows
from reports.markdown import to_markdown
from reports.publish import publish
from tests.unit.reports import sample

FILES = {"results.csv", "report.md", "junit.xml", "report.html", "trace.json"}


def test_markdown_has_every_row_and_folds_the_details(run: Path) -> None:
    text = to_markdown(load_rows(run))
    for cell in sample.CELLS:
        assert f"what={cell.params['what']} how={cell.params['how']}" in text
    assert text.count("<details>") == text.count("</details>") == 3
    assert "injected" in text


@pytest.mark.parametrize("limit", [60_000, 3_000, 1_500, 700])
def test_markdown_keeps_to_its_limit_and_says_what_is_missing(run: Path, limit: int) -> None:
    rows = load_rows(run) * 10
    text = to_markdown(rows, limit)
    assert len(text.encode()) <= limit
    shown = sum(line.startswith("| sample ") for line in text.splitlines())
    assert shown == len(rows) or f"{len(rows) - shown} rows do not fit here" in text


def test_markdown_of_many_rows_shows_the_unexpected_first(run: Path) -> None:
    text = to_markdown(load_rows(run) * 10, 3_000)
    first = next(line for line in text.splitlines() if line.startswith("| sample "))
    assert "what=wrong" in first or "what=never" in first


def test_text_of_programs_cannot_break_a_table(run: Path) -> None:
    row = sample.change(load_rows(run)[2], signature="a|b\n<script> @someone", reasons=("x|y",))
    text = to_markdown([row])
    (line,) = (line for line in text.splitlines() if line.startswith("| sample "))
    assert r"a\|b &lt;script>" in line
    assert "@someone" not in text


@pytest.mark.parametrize(
    ("scenario", "cell", "command"),
    [
        ("sample", "sample[what=x]", "crashcart run sample -p what=crash -p how=plain"),
        ("watch", "watch", "crashcart watch -- COMMAND"),
        ("pytest", "pytest[tests/test_a.py::test_b[1,x]]", "pytest 'tests/test_a.py::test_b[1,x]'"),
    ],
)
def test_the_command_that_runs_a_row_again(run: Path, scenario: str, cell: str, command: str) -> None:
    """A watched command and a supervised test are no scenarios that could be run."""
    row = sample.change(load_rows(run)[0], scenario=scenario, cell=cell)
    assert rerun(row) == command
    assert summary([row], run).splitlines()[1].startswith("1 row: ")


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("/home/somebody/.venv/bin/python -m scenarios.programs.offline_script", "offline_script"),
        ("/home/somebody/bin/trainer --fast", "trainer"),
        ("trainer", "trainer"),
        ("/usr/bin/python -m", "python"),
        ("", "?"),
    ],
)
def test_a_death_without_a_role_is_named_by_its_program(run: Path, title: str, shown: str) -> None:
    death = {"pid": 1, "name": title, "role": "other", "signal": "SIGKILL", "status_source": "pidfd", "by": "fault:x"}
    row = load_rows(run)[0]
    assert (
        died_of(sample.change(row, processes={**row.processes, "signal_deaths": [death]})) == f"{shown} SIGKILL (fault)"
    )


def test_csv_and_json_have_every_row(run: Path) -> None:
    rows = load_rows(run)
    assert len(to_csv(rows).splitlines()) == len(rows) + 1
    assert [json.loads(line)["cell"] for line in to_json(rows).splitlines()] == [row.cell for row in rows]


def test_publish_leaves_every_file_and_nothing_half_written(run: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(run, tmp_path / "run"))
    before = {path.name for path in directory.iterdir()}
    assert {path.name for path in publish(directory)} == FILES
    assert {path.name for path in directory.iterdir()} - before == FILES


def test_publish_never_fails_the_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One report that trips leaves the others alone, and is one note."""
    directory = Path(shutil.copytree(run, tmp_path / "run"))
    monkeypatch.setattr("reports.junit._case", lambda *_: 1 / 0)
    notes: list[str] = []
    assert {path.name for path in publish(directory, notes.append)} == FILES - {"junit.xml"}
    assert len(notes) == 1
    assert "ZeroDivisionError" in notes[0]
    notes.clear()
    assert publish(tmp_path / "nothing", notes.append) == []
    assert len(notes) == len(FILES)


def test_a_report_can_be_made_again_and_is_the_same(run: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(run, tmp_path / "run"))
    first = {path.name: path.read_bytes() for path in publish(directory)}
    assert {path.name: path.read_bytes() for path in publish(directory)} == first


@pytest.mark.parametrize("form", ["table", "md", "html", "csv", "json", "junit", "trace"])
def test_every_format_can_be_printed(run: Path, form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "report", str(run), "--format", form], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"what=crash" in done.stdout


def test_compare_exits_with_one_on_a_flip(run: Path, tmp_path: Path) -> None:
    same = CliRunner().invoke(cli, ["compare", str(run), str(run)], standalone_mode=False)
    assert same.return_value == 0
    rows = load_rows(run)
    other = Path(shutil.copytree(run, tmp_path / "run"))
    flipped = [sample.change(row, verdict=rows[1].verdict) for row in rows]
    (other / "results.jsonl").write_text(to_json(flipped))
    flip = CliRunner().invoke(cli, ["compare", str(run), str(other), "--format", "md"], standalone_mode=False)
    assert flip.return_value == 1
    assert "verdict flip" in flip.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "{run}", "{run}", "--format", "html"], "one run"),
        (["report", "{run}", "--format", "html", "--cell", "nobody"], "has no cell 'nobody'"),
        (["report", "{run}", "--cell", "x"], "--cell is for"),
        (["compare", "{run}", "/nowhere"], "no run directory"),
    ],
)
def test_bad_requests_say_what_and_why(run: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        cli.main([text.replace("{run}", str(run)) for text in arguments], standalone_mode=False)
