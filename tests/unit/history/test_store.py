"""The database: an index of run directories that can be thrown away, and that answers by an index of its own."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from harness.errors import RecordError, UsageError
from harness.history import schema
from harness.history.entries import Change
from harness.history.facts import machine_label, read_facts
from harness.history.retention import prune
from harness.history.store import FILE, LAST_OPPOSITE, LAST_SAID, NEWEST, SELECT, History, open_history
from harness.judge import Row
from harness.record import RESULTS
from reports.load import load_rows
from tests.unit.history.entries import CELL, DAY, record

MACHINE = "x86_64, 2 cores, 24 GiB, no GPU"
FLOATING = "actor_gc[verl=*,keep_parent=false]"


def dump(folder: Path) -> list[tuple[object, ...]]:
    """Return all that a history says, whatever its ids are."""
    with History(folder) as history:
        return sorted(history.database.execute(SELECT).fetchall())


def test_runs_are_taken_in_once_and_found_again(tmp_path: Path) -> None:
    for number, letter in enumerate("PPFF"):
        record(tmp_path, number, {CELL: letter, "other[]": "P"})
    with open_history(tmp_path) as history:
        assert history.sync() == 0
        assert history.tracks() == ["other[]", CELL]
        assert history.tracks("toy") == [CELL]
        stands = history.standing(CELL, MACHINE)
        assert stands is not None
        assert stands.change is Change.STILL_FAILING
        assert stands.since is not None
        assert stands.since.run.endswith("000002")
        assert history.standing("nothing[]", MACHINE) is None
        assert history.database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_rebuilt_from_the_run_directories_it_says_the_same(tmp_path: Path) -> None:
    for number, letter in enumerate("PnFuGOP"):
        record(tmp_path, number, {CELL: letter}, tracks={CELL: FLOATING} if number % 2 else None)
    with open_history(tmp_path):
        pass
    before = dump(tmp_path)
    assert len(before) == 7
    (tmp_path / FILE).write_bytes(b"this is no database")
    with pytest.raises(RecordError, match="not a database") as raised:
        open_history(tmp_path)
    assert "--rebuild makes it anew" in raised.value.hint
    with open_history(tmp_path, rebuild=True) as history:
        assert history.database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert dump(tmp_path) == before
    assert sorted(path.name for path in tmp_path.glob("*history*")) == [FILE]


def test_a_run_that_has_not_ended_is_read_again(tmp_path: Path) -> None:
    directory = record(tmp_path, 0, {CELL: "P"}, ended=False)
    with open_history(tmp_path) as history:
        assert len(history.newest(CELL, MACHINE)) == 1
        text = (directory / RESULTS).read_text()
        (directory / RESULTS).write_text(text + text.replace(CELL, "toy[behaviour=crash]") + text[:40])
        assert history.sync() == 1
        assert history.tracks() == ["toy[behaviour=crash]", CELL]


def test_a_damaged_run_hinders_no_other(tmp_path: Path) -> None:
    record(tmp_path, 0, {CELL: "P"})
    (record(tmp_path, 1, {CELL: "F"}) / "run.json").write_text("{")
    (tmp_path / "notes").mkdir()
    with open_history(tmp_path) as history:
        assert [entry.fails for entry in history.newest(CELL, MACHINE)] == [False]


def test_a_floating_cell_is_one_track_over_versions_and_each_version_a_cell(tmp_path: Path) -> None:
    for number, (version, letter) in enumerate([("0.4.1", "P"), ("0.3.0", "F"), ("0.4.1", "P")]):
        cell = f"actor_gc[verl={version},keep_parent=false]"
        record(tmp_path, number, {cell: letter}, tracks={cell: FLOATING}, effective={"verl": version, "tp": "2"})
    with open_history(tmp_path) as history:
        track = history.newest(FLOATING, MACHINE)
        assert [entry.versions["verl"] for entry in track] == ["0.4.1", "0.3.0", "0.4.1"]
        assert "tp" not in track[0].versions
        assert len(history.newest("actor_gc[verl=0.4.1,keep_parent=false]", MACHINE)) == 2


def test_machines_of_one_kind_share_a_history_and_others_do_not(tmp_path: Path) -> None:
    record(tmp_path, 0, {CELL: "P"})
    record(tmp_path, 1, {CELL: "F"}, environment={"gpus": ["NVIDIA H100", "NVIDIA H100"]})
    with open_history(tmp_path) as history:
        assert history.machines() == [MACHINE.replace("no GPU", "2× NVIDIA H100"), MACHINE]
        stands = history.standing(CELL, MACHINE)
        assert stands is not None
        assert not stands.failing
    assert machine_label({}) == "?, ? cores, 0 GiB, no GPU"


def test_a_turn_before_the_window_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, letter in enumerate("FPFFFFnF"):
        record(tmp_path, number, {CELL: letter})
    monkeypatch.setattr(History.newest, "__defaults__", (3,))
    with open_history(tmp_path) as history:
        assert len(history.newest(CELL, MACHINE)) == 3
        stands = history.standing(CELL, MACHINE)
        assert stands is not None
        assert stands.since is not None
        assert stands.turned_from is not None
        assert (stands.since.run[-1], stands.turned_from.run[-1]) == ("2", "1")


@pytest.mark.parametrize("by", ["cell", "track"])
def test_a_cell_is_found_by_an_index_and_never_by_a_scan(by: str, tmp_path: Path) -> None:
    """Whatever the number of runs: no table is scanned, and nothing is sorted."""
    with History(tmp_path) as history:
        for query, count in ((SELECT + NEWEST, 3), (LAST_SAID, 2), (LAST_OPPOSITE, 3)):
            plan = history.database.execute("EXPLAIN QUERY PLAN " + query.format(by=by), (1,) * count).fetchall()
            steps = [step for *_, step in plan]
            assert any(f"USING INDEX results_by_{by}" in step or f"COVERING INDEX results_by_{by}" in step
                       for step in steps), steps  # fmt: skip
            assert not [step for step in steps if step.startswith("SCAN") or "TEMP B-TREE" in step]


def test_an_older_schema_is_brought_up_and_a_newer_one_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path, 0, {CELL: "F"})
    with open_history(tmp_path):
        pass
    before = dump(tmp_path)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "ALTER TABLE runs ADD COLUMN note TEXT;"))
    with History(tmp_path) as history:
        assert history.database.execute("PRAGMA user_version").fetchone() == (2,)
        assert history.database.execute("SELECT note FROM runs").fetchall() == [(None,)]
    assert dump(tmp_path) == before
    monkeypatch.undo()
    with pytest.raises(RecordError, match="has schema 2, this crashcart knows 1"):
        History(tmp_path)


def test_a_migration_that_fails_leaves_the_old_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with History(tmp_path):
        pass
    broken = "ALTER TABLE runs ADD COLUMN note TEXT; ALTER TABLE nowhere ADD COLUMN note TEXT;"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
    with pytest.raises(RecordError, match="no such table: nowhere"):
        History(tmp_path)
    database = sqlite3.connect(tmp_path / FILE)
    assert database.execute("PRAGMA user_version").fetchone() == (1,)
    assert "note" not in [column[1] for column in database.execute("PRAGMA table_info(runs)")]
    database.close()


def test_old_runs_go_and_first_failures_stay(tmp_path: Path) -> None:
    """Of P P F F P P F P: the passes before a failure, the failures after one and the newest stay."""
    directories = [record(tmp_path, number, {CELL: letter}) for number, letter in enumerate("PPFFPPFP")]
    latest = tmp_path / "latest"
    latest.symlink_to(directories[-1].name)
    with open_history(tmp_path) as history:
        prune(history, int(time.time()))
        assert [directory.exists() for directory in directories] == [
            False, True, True, False, False, True, True, True,
        ]  # fmt: skip
        assert prune(history, int(time.time())) == []
    left = dump(tmp_path)
    with open_history(tmp_path, rebuild=True):
        pass
    assert dump(tmp_path) == left
    assert len(left) == 5


def test_young_runs_and_what_is_no_run_any_more_are_not_touched(tmp_path: Path) -> None:
    directories = [record(tmp_path, number, {CELL: "P"}) for number in range(4)]
    with open_history(tmp_path) as history:
        (directories[0] / "run.json").write_text('{"schema": 1}')
        deleted = prune(history, 1_700_000_000 + 2 * DAY)
    assert deleted == [directories[1]]
    assert directories[0].exists()


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        open_history(tmp_path / "nowhere")


def test_facts_are_those_of_the_rows(tmp_path: Path) -> None:
    directory = record(
        tmp_path, 0, {CELL: "F", "other[]": "P"}, throughput={"output_tok_s": 12.5}, tracks={}
    )  # fmt: skip
    facts = read_facts(directory)
    rows: list[Row] = load_rows(directory)
    assert (facts.name, facts.night, facts.ended, facts.at) == (directory.name, "night0", True, 1_700_000_000)
    assert [(one.cell, one.verdict, one.signature, one.tok_s) for one in facts.entries] == [
        (row.cell, row.verdict, row.signature, 12.5) for row in rows
    ]
    assert facts.entries[0].versions == {"crashcart": "0", "ray": "2.60.0"}
