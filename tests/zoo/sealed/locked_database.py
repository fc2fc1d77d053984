"""Two processes write to one SQLite database in turns; each keeps its transaction open for nine seconds of sleep.

The one that waits asks for the lock many times a second (SQLite's busy handler), within a phase.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from harness import child

HELD_S = 9.0


def write(path: Path, end: float) -> None:
    with child.phase("write"):
        while time.monotonic() < end:
            database = sqlite3.connect(path, timeout=600, isolation_level=None)
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO rows VALUES (1)")
            time.sleep(HELD_S)
            database.execute("COMMIT")
            database.close()


def main() -> None:
    end = time.monotonic() + float(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.db"
        sqlite3.connect(path).execute("CREATE TABLE rows (n)")
        context = multiprocessing.get_context("fork")
        writers = [context.Process(target=write, args=(path, end - 2 * HELD_S)) for _ in range(2)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    print("done", flush=True)


if __name__ == "__main__":
    main()
