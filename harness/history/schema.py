"""The database file: opened in WAL mode and brought to the newest schema."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from harness.errors import RecordError

BUSY_S: Final = 30.0

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE machines (id INTEGER PRIMARY KEY, label TEXT NOT NULL UNIQUE);
    CREATE TABLE versions (id INTEGER PRIMARY KEY, packages TEXT NOT NULL UNIQUE);
    CREATE TABLE cells (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, scenario TEXT NOT NULL);
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        path TEXT NOT NULL,
        at INTEGER NOT NULL,
        machine INTEGER NOT NULL REFERENCES machines,
        crashcart TEXT NOT NULL,
        night TEXT,
        ended INTEGER NOT NULL
    );
    CREATE TABLE results (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        cell INTEGER NOT NULL REFERENCES cells,
        track INTEGER NOT NULL REFERENCES cells,
        machine INTEGER NOT NULL REFERENCES machines,
        versions INTEGER NOT NULL REFERENCES versions,
        at INTEGER NOT NULL,
        fails INTEGER,
        verdict TEXT NOT NULL,
        expected TEXT,
        as_expected INTEGER,
        signature TEXT,
        reason TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        reproduced INTEGER NOT NULL,
        wall_s REAL NOT NULL,
        tok_s REAL,
        PRIMARY KEY (run, cell)
    ) WITHOUT ROWID;
    CREATE INDEX results_by_track ON results (track, machine, at, run, fails);
    CREATE INDEX results_by_cell ON results (cell, machine, at, run, fails);
    """,
)
"""Each brings the schema one version on (``PRAGMA user_version``); one that was released is never changed."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the database, making it where it is not there.

    Raises:
        RecordError: If it is no database, or of a newer crashcart, or may not be written.
    """
    database = None
    try:
        database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA foreign_keys = ON")
        migrate(database, path)
    except (sqlite3.Error, RecordError) as error:
        if database is not None:
            database.close()
        if isinstance(error, RecordError):
            raise
        msg = f"cannot use the history {path}: {error}"
        hint = f"crashcart history --in {path.parent} --rebuild makes it anew from the runs"
        raise RecordError(msg, hint=hint) from error
    return database


def migrate(database: sqlite3.Connection, path: Path) -> None:
    """Bring the schema to the newest version, in one transaction; two that come at once do it once.

    Raises:
        RecordError: If it is of a newer crashcart.
    """
    found = _version(database)
    if found > len(MIGRATIONS):
        msg = f"the history {path} has schema {found}, this crashcart knows {len(MIGRATIONS)}"
        raise RecordError(msg, hint="use the crashcart that wrote it, or make it anew with --rebuild")
    if found == len(MIGRATIONS):
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        for script in MIGRATIONS[_version(database) :]:
            for statement in filter(str.strip, script.split(";")):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)
