"""The history of a folder of run directories: a SQLite database that is only ever an index of what lies there.

Everything in it was read from run directories, so it may be thrown away and made anew at any time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from harness.errors import RecordError, UsageError
from harness.history.entries import Entry, Standing, standing
from harness.history.schema import connect
from harness.outcome import VerdictName

if TYPE_CHECKING:
    from harness.history.facts import RunFacts

FILE: Final = "history.sqlite"
WINDOW: Final = 200
"""So many of the newest entries of a track decide about flakiness and speed."""

SELECT: Final = """
SELECT runs.name, results.at, cells.scenario, cells.name, tracks.name, machines.label, verdict, expected, as_expected,
       signature, reason, packages, attempts, reproduced, wall_s, tok_s, runs.path
FROM results JOIN runs ON runs.id = results.run JOIN cells ON cells.id = results.cell
     JOIN cells AS tracks ON tracks.id = results.track JOIN machines ON machines.id = results.machine
     JOIN versions ON versions.id = results.versions
"""
NEWEST: Final = "WHERE results.{by} = ? AND results.machine = ? ORDER BY results.at DESC, results.run DESC LIMIT ?"
LAST_SAID: Final = """
SELECT at, run, fails FROM results WHERE {by} = ? AND machine = ? AND fails IS NOT NULL
ORDER BY at DESC, run DESC LIMIT 1
"""
LAST_OPPOSITE: Final = """
SELECT at, run FROM results WHERE {by} = ? AND machine = ? AND fails = ? ORDER BY at DESC, run DESC LIMIT 1
"""
FIRST_AFTER: Final = """
SELECT at, run FROM results WHERE {by} = ? AND machine = ? AND fails = ? AND (at, run) > (?, ?)
ORDER BY at, run LIMIT 1
"""


class History:
    """The runs of one folder.

    Raises:
        RecordError: If the database cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = connect(folder / FILE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()

    @classmethod
    def rebuild(cls, folder: Path) -> History:
        """Make the database anew from the run directories, and put it in the place of the old one when it is whole."""
        building = folder / f".{FILE}.{os.getpid()}"
        _remove(building)
        database = connect(building)
        made = cls.__new__(cls)
        made.folder, made.database = folder, database
        made.sync()
        database.execute("PRAGMA journal_mode = DELETE")  # one file, that can be moved
        database.close()
        _remove(folder / FILE)
        building.replace(folder / FILE)
        return cls(folder)

    def sync(self) -> int:
        """Take in the runs that are new, or that had not ended; return how many there were.

        A folder in which somebody else works may hold half a run: it is taken in as it is, and read again later.
        """
        known = {name for (name,) in self.database.execute("SELECT name FROM runs WHERE ended = 1")}
        found = sorted(entry.name for entry in os.scandir(self.folder) if entry.is_dir(follow_symlinks=False))
        fresh = [self.folder / name for name in found if name not in known]
        if not fresh:
            return 0
        from harness.history.facts import read_facts  # what judges and records is needed for new runs only: it is slow

        count = 0
        for directory in fresh:
            try:
                self.add(read_facts(directory))
            except RecordError:
                continue  # no run, damaged, or of a newer crashcart: `crashcart report` says so of each
            count += 1
        return count

    def add(self, facts: RunFacts) -> None:
        """Take in one run in the place of what was known of it, all or nothing."""
        with self._transaction():
            self.database.execute("DELETE FROM runs WHERE name = ?", (facts.name,))
            machine = self._id("machines", "label", facts.machine)
            run = self.database.execute(
                "INSERT INTO runs (name, path, at, machine, crashcart, night, ended) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (facts.name, facts.path, facts.at, machine, facts.crashcart, facts.night, facts.ended),
            ).lastrowid
            for entry in facts.entries:
                self._add_entry(run, machine, entry)

    def _add_entry(self, run: int | None, machine: int, entry: Entry) -> None:
        packages = msgspec.json.encode(entry.versions).decode()
        self.database.execute(
            f"INSERT INTO results VALUES ({', '.join('?' * 16)})",  # noqa: S608 - question marks only
            (
                run, self._cell(entry.cell, entry.scenario), self._cell(entry.track, entry.scenario), machine,
                self._id("versions", "packages", packages), entry.at, entry.fails, entry.verdict.value,
                entry.expected.value if entry.expected else None, entry.as_expected, entry.signature, entry.reason,
                entry.attempts, entry.reproduced, entry.wall_s, entry.tok_s,
            ),
        )  # fmt: skip

    def forget(self, run: str) -> None:
        """Drop a run."""
        self.database.execute("DELETE FROM runs WHERE name = ?", (run,))

    def machines(self) -> list[str]:
        """Return the kinds of machines that there are runs of."""
        return [label for (label,) in self.database.execute("SELECT label FROM machines ORDER BY label")]

    def tracks(self, scenario: str | None = None) -> list[str]:
        """Return the tracks, of one scenario or of all, in the order of their names."""
        rows = self.database.execute(
            "SELECT name FROM cells WHERE (?1 IS NULL OR scenario = ?1) AND"
            " EXISTS (SELECT 1 FROM results WHERE results.track = cells.id) ORDER BY name",
            (scenario,),
        )
        return [name for (name,) in rows]

    def paths(self) -> dict[str, tuple[Path, int]]:
        """Return run directory and time of each run."""
        return {name: (Path(path), at) for name, path, at in self.database.execute("SELECT name, path, at FROM runs")}

    def newest(self, name: str, machine: str, limit: int = WINDOW) -> list[Entry]:
        """Return the newest entries of a track or a cell on one kind of machine, oldest first."""
        keys = self._keys(name, machine)
        if keys is None:
            return []
        by, one, on = keys
        rows = self.database.execute(SELECT + NEWEST.format(by=by), (one, on, limit)).fetchall()
        return [_entry(row) for row in reversed(rows)]

    def standing(self, name: str, machine: str) -> Standing | None:
        """Return how a track or a cell stands on one kind of machine, or ``None`` if it never ran there."""
        entries = self.newest(name, machine)
        return standing([*self._turn(name, machine, entries[0]), *entries]) if entries else None

    def _turn(self, name: str, machine: str, oldest: Entry) -> list[Entry]:
        """Return the entries around the last turn, if it lies before the newest ones."""
        keys = self._keys(name, machine)
        if keys is None:
            return []
        by, *which = keys
        last = self.database.execute(LAST_SAID.format(by=by), which).fetchone()
        if last is None:
            return []
        opposite = self.database.execute(LAST_OPPOSITE.format(by=by), (*which, 1 - last[2])).fetchone()
        after = opposite or (-1, -1)
        since = self.database.execute(FIRST_AFTER.format(by=by), (*which, last[2], *after)).fetchone()
        found = [self._one(by, which[0], run) for _, run in filter(None, (opposite, since))]
        return [entry for entry in found if (entry.at, entry.run) < (oldest.at, oldest.run)]

    def _one(self, by: str, which: int, run: int) -> Entry:
        row = self.database.execute(f"{SELECT} WHERE results.run = ? AND results.{by} = ?", (run, which)).fetchone()
        return _entry(row)

    def _keys(self, name: str, machine: str) -> tuple[str, int, int] | None:
        """Return the column, the cell and the machine to look for; an exact cell is found in floating tracks, too."""
        one = self.database.execute("SELECT id FROM cells WHERE name = ?", (name,)).fetchone()
        on = self.database.execute("SELECT id FROM machines WHERE label = ?", (machine,)).fetchone()
        return ("track" if "=*" in name else "cell", one[0], on[0]) if one and on else None

    def _cell(self, name: str, scenario: str) -> int:
        self.database.execute("INSERT OR IGNORE INTO cells (name, scenario) VALUES (?, ?)", (name, scenario))
        (found,) = self.database.execute("SELECT id FROM cells WHERE name = ?", (name,)).fetchone()
        return int(found)

    def _id(self, table: str, column: str, value: str) -> int:
        self.database.execute(f"INSERT OR IGNORE INTO {table} ({column}) VALUES (?)", (value,))  # noqa: S608 - ours
        (found,) = self.database.execute(f"SELECT id FROM {table} WHERE {column} = ?", (value,)).fetchone()  # noqa: S608
        return int(found)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")


def open_history(folder: Path, *, rebuild: bool = False) -> History:
    """Open the history of a folder of runs and take in what is new there.

    Raises:
        UsageError: If there is no such folder.
        RecordError: If the database cannot be used.
    """
    if not folder.is_dir():
        msg = f"no folder {folder}"
        raise UsageError(msg, hint="name the folder that holds run directories with --in; `crashcart run` makes runs/")
    try:
        if rebuild:
            return History.rebuild(folder)
        history = History(folder)
        history.sync()
    except (sqlite3.Error, OSError) as error:
        msg = f"cannot keep the history of {folder}: {error}"
        raise RecordError(msg, hint="is the folder writable, and its disk not full?") from error
    return history


def _entry(row: Iterable[Any]) -> Entry:
    (run, at, scenario, cell, track, machine, verdict, expected, as_expected, signature, reason, packages, attempts,
     reproduced, wall_s, tok_s, path) = row  # fmt: skip
    return Entry(
        run=run,
        at=at,
        scenario=scenario,
        cell=cell,
        track=track,
        machine=machine,
        verdict=VerdictName(verdict),
        expected=VerdictName(expected) if expected else None,
        as_expected=None if as_expected is None else bool(as_expected),
        signature=signature,
        reason=reason,
        versions=msgspec.json.decode(packages, type=dict[str, str]),
        attempts=attempts,
        reproduced=reproduced,
        wall_s=wall_s,
        tok_s=tok_s,
        path=path,
    )


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
