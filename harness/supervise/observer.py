"""Sees births and deaths of an attempt's processes, without tracing and without privileges.

Births: pids are given out in order, so the kernel's last pid (/proc/loadavg) says which numbers are new; each is tried
a few times and claimed when its parent is known, when it was reparented to this process (the subreaper), by its cgroup,
or by the cookie in its environment. Walking the tree instead costs a read for every thread of every process, 200 times
a second.

Deaths: a pidfd of every process, in one epoll set. It becomes readable when the process is a zombie and hangs up when
it has been reaped; then the kernel tells the exit status, whoever the parent was (Linux 6.15). Where it does not, the
zombie's own stat is used, and where that was missed, the status is ``unknown``. Each death makes for a look: where one
process has ended, others are often being born.

With the process-event connector (only where it is asked for: it costs every fork of the machine some time) births and
deaths also come as events, so that a process is seen that lived for less than a look.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from harness.child import COOKIE
from harness.outcome import ExitStatus, StatusSource
from harness.probes import linux, proc
from harness.probes.cgroup import Group
from harness.probes.connector import Connector, Exited, Forked, Overflowed
from harness.supervise.ledger import Entry, Ledger

POLL_S: Final = 0.004
"""Longest time between two looks for new processes, in seconds."""
TICK_S: Final = 0.02
"""Longest time in `Observer.wait`, in seconds: what else its caller looks at need not be that prompt."""
RETRY_NS: Final = tuple(step * 1_000_000 for step in (0, 5, 20, 75, 200, 400, 800))
"""When an unclaimed new pid is looked at again: the fork may not be complete, the exec that brings the cookie later."""
NEVER: Final = len(RETRY_NS)
GONE: Final = 3
"""At this look, 80 ms after the first, a pid without a process is no fork under way any more: it has died.

Such a pid is tried at looks 0, 1 and 3 only: where a program does nothing but spawn, they are most of the work.
"""
FULL_SCAN: Final = 4096
"""From so many new pids on, /proc is listed instead."""


class Observer:
    """Feeds a ledger with what the kernel shows."""

    def __init__(
        self,
        ledger: Ledger,
        cookie: str,
        without: frozenset[str] = frozenset(),
        connector: Connector | None = None,
        group: Group | None = None,
    ) -> None:
        self.ledger = ledger
        self._group = group
        self._connector = connector
        self.lost_events = 0
        """How often the connector has lost events."""
        self.helpers: set[int] = set()
        """Our own children that are no part of the attempt, such as stack tools."""
        self._cookie = cookie
        self._variable = COOKIE.encode()
        self._use_info = "pidfd_info" not in without
        self._use_zombie = "zombie_stat" not in without
        self._self = os.getpid()
        self._root = 0
        self._epoll = select.epoll()
        """The pidfds of all entries."""
        self._wake = select.epoll()
        """What makes for a look: deaths, the connector; and what is urgent besides."""
        self._wake.register(self._epoll.fileno(), select.EPOLLIN)
        self._usual = {self._epoll.fileno()}
        if connector is not None:
            self._wake.register(connector.fileno(), select.EPOLLIN)
            self._usual.add(connector.fileno())
        self._told: dict[int, ExitStatus] = {}
        """Statuses that the connector told of processes whose end has not been entered yet."""
        self._by_fd: dict[int, Entry] = {}
        self._pending: tuple[deque[tuple[int, int]], ...] = tuple(deque() for _ in RETRY_NS)
        """For each look, the new pids that wait for it: when, in monotonic nanoseconds, and which."""
        self._zombies: list[Entry] = []
        self._wrap = proc.pid_max()
        self._load = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        self.on_load: Callable[[int], None] = lambda _: None
        """Told at each look how many threads of the machine run or want to."""
        _, self._last = proc.read_load(self._load)

    def watch_fd(self, descriptor: int) -> None:
        """Wake `wait` up when a descriptor of the caller becomes readable."""
        self._wake.register(descriptor, select.EPOLLIN)

    def root(self, pid: int) -> Entry:
        """Enter the process that the supervisor itself started."""
        stat = proc.read_stat(pid)
        if stat is None:
            raise ProcessLookupError(pid)
        self._root = pid
        entry = self._enter(stat, os.pidfd_open(pid), "root")
        self._wake.register(entry.pidfd, select.EPOLLIN)
        return entry

    def sweep(self) -> None:
        """Enter what is in the attempt's cgroup and was missed so far."""
        for pid in self._group.pids() if self._group is not None else ():
            self._try_claim(pid)

    def wait(self, timeout_s: float = TICK_S) -> None:
        """Enter all births and deaths that can be seen, for ``timeout_s`` or until something happens that is urgent.

        Urgent are the end of the root and of the last process, and what `watch_fd` was called for.
        """
        until = time.monotonic() + timeout_s
        while not self._look(min(POLL_S, timeout_s)) and self._by_fd and time.monotonic() < until:
            pass

    def _look(self, timeout_s: float) -> bool:
        """Sleep until something happens, or for so long, and look; return whether it was something urgent."""
        woken = self._wake.poll(timeout_s)
        if self._connector is not None:
            self._read_connector(self._connector)
        self._find_new()
        for descriptor, mask in self._epoll.poll(0):
            if entry := self._by_fd.get(descriptor):
                self._ending(entry, hung_up=bool(mask & select.EPOLLHUP))
        if self._zombies:
            for entry in self._zombies:
                if not entry.dead:
                    self._reap(entry)
            self._zombies = [entry for entry in self._zombies if not entry.dead]
        return any(descriptor not in self._usual for descriptor, _ in woken)

    def _read_connector(self, connector: Connector) -> None:
        for event in connector.read():
            if isinstance(event, Overflowed):
                self.lost_events += 1
            elif isinstance(event, Exited):
                if event.pid in self.ledger.by_pid:
                    status = ExitStatus.from_wait_status(event.status, StatusSource.CONNECTOR)
                    self._told[event.pid] = status
                    self._gone_at_once(event.pid, status)
            elif event.parent in self.ledger.by_pid and event.pid not in self.ledger.by_pid:
                self._forked(event)

    def _forked(self, event: Forked) -> None:
        """Enter a child of a member; if it has gone already, by what the connector says alone."""
        if self._try_claim(event.pid) != NEVER:
            self.ledger.born(proc.Stat(event.pid, "", "X", event.parent, 0, 0), -1, "parent")

    def _gone_at_once(self, pid: int, status: ExitStatus) -> None:
        entry = self.ledger.by_pid[pid]
        if entry.pidfd < 0:
            self._told.pop(pid, None)
            self.ledger.died(entry, status, time.monotonic_ns())

    def close(self) -> None:
        """Release the descriptors; what has not been reaped is recorded with the status of its zombie."""
        for entry in list(self._by_fd.values()):
            if entry.zombie_since_ns is not None:
                self._dead(entry, entry.zombie_status or ExitStatus())
            else:
                os.close(entry.pidfd)
        self._by_fd.clear()
        self._wake.close()
        self._epoll.close()
        os.close(self._load)

    # Births ---------------------------------------------------------------------------------------------------------

    def _find_new(self) -> None:
        now = time.monotonic_ns()
        runnable, last = proc.read_load(self._load)
        self.on_load(runnable)
        if last != self._last:
            self._pending[0].extend((now, pid) for pid in self._new_numbers(last))
            self._last = last
        for look, queue in enumerate(self._pending):
            while queue and queue[0][0] <= now:
                _, pid = queue.popleft()
                if (following := self._try_claim(pid, look)) < len(self._pending):
                    self._pending[following].append((now + RETRY_NS[following], pid))

    def _new_numbers(self, last: int) -> list[int]:
        if last > self._last:
            count = last - self._last
            return list(range(self._last + 1, last + 1)) if count < FULL_SCAN else proc.all_pids()
        if self._wrap - self._last + last < FULL_SCAN:
            return [*range(self._last + 1, self._wrap), *range(300, last + 1)]
        return proc.all_pids()

    def _try_claim(self, pid: int, look: int = 0) -> int:
        """Enter a process if it is ours; return at which look to ask again, `NEVER` if there is nothing to be asked."""
        if pid in self.ledger.by_pid or pid == self._self or self._helps(pid):
            return NEVER
        try:
            pidfd = linux.open_pidfd(pid)
        except OSError:
            return GONE if look == 1 else look + 1 if look < GONE else NEVER
        if pidfd is None:
            return NEVER
        stat = proc.read_stat(pid)
        claim = self._claim(stat) if stat is not None else None
        if stat is None or claim is None:
            os.close(pidfd)
            return look + 1
        self._enter(stat, pidfd, claim)
        return NEVER

    def _helps(self, pid: int) -> bool:
        """Whether it is a helper of ours; the number of one that has ended may have been given to anybody since."""
        if pid not in self.helpers:
            return False
        stat = proc.read_stat(pid)
        return stat is not None and stat.ppid == self._self

    def _claim(self, stat: proc.Stat) -> str | None:
        if stat.ppid in self.ledger.by_pid:
            return "parent"
        if stat.ppid == self._self:
            return "subreaper"
        if self._group is not None and self._group.holds(stat.pid):
            return "cgroup"
        return "cookie" if proc.read_cookie(stat.pid, self._variable) == self._cookie else None

    def _enter(self, stat: proc.Stat, pidfd: int, claimed_by: str) -> Entry:
        entry = self.ledger.born(stat, pidfd, claimed_by)
        self._by_fd[pidfd] = entry
        self._epoll.register(pidfd, select.EPOLLIN)
        return entry

    # Deaths ---------------------------------------------------------------------------------------------------------

    def _ending(self, entry: Entry, *, hung_up: bool) -> None:
        if entry.zombie_since_ns is None:
            entry.zombie_since_ns = time.monotonic_ns()
            if entry.key.pid == self._root:
                self._wake.unregister(entry.pidfd)
            stat = proc.read_stat(entry.key.pid) if not hung_up else None
            if self._use_zombie and stat is not None and stat.start == entry.key.start and stat.state in "ZX":
                entry.zombie_status = ExitStatus.from_wait_status(stat.exit_code, StatusSource.ZOMBIE_STAT)
            self._children_lose_parent(entry)
            self._epoll.modify(entry.pidfd, 0)  # hang-up is reported all the same
            self._zombies.append(entry)
        if hung_up:
            raw = linux.pidfd_exit_status(entry.pidfd) if self._use_info else None
            told = self._told.pop(entry.key.pid, None)
            if raw is not None:
                self._dead(entry, ExitStatus.from_wait_status(raw, StatusSource.PIDFD))
            else:
                self._dead(entry, told or entry.zombie_status or ExitStatus())

    def _reap(self, entry: Entry) -> None:
        """Reap a zombie that is our own child: the root, or an orphan that was reparented to us."""
        try:
            pid, raw = os.waitpid(entry.key.pid, os.WNOHANG)
        except ChildProcessError:
            return
        if pid:
            source = StatusSource.WAITPID if pid == self._root else StatusSource.SUBREAPER
            self._dead(entry, ExitStatus.from_wait_status(raw, source))

    def _dead(self, entry: Entry, status: ExitStatus) -> None:
        self._by_fd.pop(entry.pidfd, None)
        self._epoll.unregister(entry.pidfd)
        os.close(entry.pidfd)
        self.ledger.died(entry, status, entry.zombie_since_ns or time.monotonic_ns())

    def _children_lose_parent(self, entry: Entry) -> None:
        for child in self.ledger.running():
            if child.ppid == entry.key.pid:
                stat = proc.read_stat(child.key.pid)
                if stat is not None and stat.key == child.key and stat.ppid != child.ppid:
                    self.ledger.reparented(child, stat.ppid)
