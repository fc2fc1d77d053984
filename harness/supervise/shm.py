"""Which entries of /dev/shm belong to an attempt: those that one of its processes was seen to hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from harness.events import LeftBehind, ProcessKey, ShmSeen
from harness.probes import linux, proc
from harness.record import Sink
from harness.supervise.ledger import Ledger

SHM: Final = Path("/dev/shm")  # noqa: S108 - this is the file system that is watched
MAX_LOOKS: Final = 20
"""After so many looks without finding a holder in the tree, a new entry is somebody else's."""


class ShmWatch:
    """Attributes new entries to their holders while these live; a difference before and after would claim others'."""

    def __init__(self, ledger: Ledger, sink: Sink) -> None:
        self._ledger = ledger
        self._sink = sink
        self._before = _names()
        self._looks: dict[str, int] = {}
        self._owned: dict[str, ProcessKey] = {}
        self.descriptor = linux.watch_folder(SHM)
        """Readable when an entry has appeared (see `appeared`); ``None`` where the kernel does not tell."""

    def appeared(self) -> None:
        """Search for the holders of entries that have appeared just now: some are held for a moment only."""
        if self.descriptor is not None:
            for name in linux.read_appeared(self.descriptor) - self._owned.keys():
                self._attribute(name)

    def look(self) -> None:
        """Search the tree for holders of entries that are new since the start."""
        for name in _names() - self._before - self._owned.keys():
            if self._looks.get(name, 0) >= MAX_LOOKS:
                continue
            self._looks[name] = self._looks.get(name, 0) + 1
            self._attribute(name)

    def _attribute(self, name: str) -> None:
        path = str(SHM / name)
        holder = next((entry for entry in self._ledger.running() if proc.holds(entry.key.pid, path)), None)
        if holder is not None:
            self._owned[name] = holder.key
            self._sink(ShmSeen(path=path, key=holder.key, size=_size(name)))

    def reclaim(self) -> None:
        """Record and remove what the attempt has left in /dev/shm; call once, when its processes are gone."""
        if self.descriptor is not None:
            os.close(self.descriptor)
        for name in sorted(self._owned.keys() & _names()):
            size = _size(name)
            try:
                (SHM / name).unlink()
                reclaimed = True
            except OSError:
                reclaimed = False
            self._sink(LeftBehind(what="shm", name=name, key=self._owned[name], bytes=size, reclaimed=reclaimed))


def _names() -> set[str]:
    try:
        return set(os.listdir(SHM))
    except OSError:
        return set()


def _size(name: str) -> int:
    try:
        return (SHM / name).stat().st_size
    except OSError:
        return 0
