"""Every descendant of an attempt, keyed by pid and start time, from its first sighting to its exit status."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from harness.events import ProcessBorn, ProcessDied, ProcessKey, ProcessRenamed, ProcessReparented
from harness.outcome import ExitStatus
from harness.probes.proc import Stat, read_title
from harness.record import Sink


@dataclass(slots=True)
class Entry:
    """A process of the attempt, as far as it is known now."""

    key: ProcessKey
    ppid: int
    parent: ProcessKey | None
    name: str
    pidfd: int
    claimed_by: str
    zombie_since_ns: int | None = None
    zombie_status: ExitStatus | None = None
    dead: bool = False
    signalled: str = ""
    """Our own step that was aimed at it, such as ``stop:SIGTERM`` or ``fault:kill_api``."""
    retitle_at_ns: int = 0
    retitle_step_ns: int = 0

    @property
    def running(self) -> bool:
        """Whether it can still do something: neither dead nor a zombie."""
        return not self.dead and self.zombie_since_ns is None


FIRST_RETITLE_NS: Final = 10_000_000
LAST_RETITLE_NS: Final = 500_000_000


class Ledger:
    """Owns the entries and records every change of them."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.entries: dict[ProcessKey, Entry] = {}
        self.by_pid: dict[int, Entry] = {}
        """Processes that are not known to be dead, by pid."""

    def born(self, stat: Stat, pidfd: int, claimed_by: str) -> Entry:
        """Enter a process that belongs to the attempt."""
        parent = self.by_pid.get(stat.ppid)
        title = read_title(stat.pid) or stat.comm
        entry = Entry(
            key=stat.key,
            ppid=stat.ppid,
            parent=parent.key if parent else None,
            name=title,
            pidfd=pidfd,
            claimed_by=claimed_by,
            retitle_at_ns=time.monotonic_ns() + FIRST_RETITLE_NS,
            retitle_step_ns=FIRST_RETITLE_NS,
        )
        if not title and parent is not None:
            entry.name = parent.name  # gone before it could be asked, and before it can have become anything else
        self.entries[entry.key] = self.by_pid[stat.pid] = entry
        self.sink(
            ProcessBorn(
                key=entry.key,
                ppid=stat.ppid,
                parent=entry.parent,
                name=entry.name,
                comm=stat.comm,
                claimed_by=claimed_by,
            )
        )
        return entry

    def died(self, entry: Entry, status: ExitStatus, t_ns: int) -> None:
        """Record a death; children that live on get another parent, which is recorded by `reparented`."""
        entry.dead = True
        if self.by_pid.get(entry.key.pid) is entry:
            del self.by_pid[entry.key.pid]
        self.sink(ProcessDied(key=entry.key, status=status, t_ns=t_ns, ended_by=entry.signalled))

    def reparented(self, entry: Entry, ppid: int) -> None:
        """Record that a process has another parent than before."""
        entry.ppid = ppid
        self.sink(ProcessReparented(key=entry.key, ppid=ppid))

    def refresh_title(self, entry: Entry, now_ns: int) -> None:
        """Read the title again; young processes are asked more often, since a fork is soon followed by an exec."""
        if now_ns < entry.retitle_at_ns:
            return
        entry.retitle_step_ns = min(entry.retitle_step_ns * 2, LAST_RETITLE_NS)
        entry.retitle_at_ns = now_ns + entry.retitle_step_ns
        title = read_title(entry.key.pid)
        if title and title != entry.name:
            entry.name = title
            self.sink(ProcessRenamed(key=entry.key, name=title))

    def running(self) -> list[Entry]:
        """Return the processes that can still do something."""
        return [entry for entry in self.by_pid.values() if entry.running]
