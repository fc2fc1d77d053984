"""Deletes old run directories, and never one that somebody will ask for: the first time that something failed.

Kept whatever their age: every failure that follows a pass or another failure, the entry that it follows (what worked
last), and the newest entry of each track. These are enough to find the same first failures in what is left, so that no
later deletion takes what an earlier one had spared.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from harness.errors import RecordError
from harness.history.entries import Entry, first_failures
from harness.history.store import History
from harness.record import read_manifest


def protected(entries: Iterable[Entry]) -> set[str]:
    """Return the runs that must stay for one track on one kind of machine; its entries are oldest first."""
    entries = list(entries)
    pairs = first_failures(entries)
    kept = {entry.run for pair in pairs for entry in pair if entry is not None}
    return kept | {entry.run for entry in entries[-1:]}


def prune(history: History, before: int) -> list[Path]:
    """Delete the runs that began before a time, in seconds since 1970, and that nothing protects; return them.

    Only directories that are still what the history says are touched.
    """
    kept: set[str] = set()
    for track in history.tracks():
        for machine in history.machines():
            kept |= protected(history.newest(track, machine, limit=-1))
    deleted = []
    for name, (path, at) in history.paths().items():
        if at >= before or name in kept:
            continue
        if path.is_dir():
            if not _is(path, name):
                continue
            shutil.rmtree(path)
            deleted.append(path)
        history.forget(name)
    return deleted


def _is(path: Path, name: str) -> bool:
    try:
        return read_manifest(path).run == name
    except RecordError:
        return False
