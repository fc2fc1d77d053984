"""The mark in the environment of every process of an attempt.

It names the supervisor, so that survivors of a crashcart that was killed can be told from the processes of one that is
still at work.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.child import COOKIE
from harness.events import AttemptStarted, ProcessBorn, ProcessDied, ProcessKey, ProcessRenamed, RunEnded
from harness.probes import cgroup, proc
from harness.record import iterate_events


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """A live process that a crashcart which is gone had started."""

    key: ProcessKey
    title: str
    cookie: str


def new_cookie() -> str:
    """Return ``<random>.<supervisor's pid>.<supervisor's start time>.<pid namespace>``."""
    stat = proc.read_stat(os.getpid())
    return f"{secrets.token_hex(8)}.{os.getpid()}.{stat.start if stat else 0}.{_pid_namespace()}"


def supervisor_of(cookie: str) -> ProcessKey | None:
    """Return the identity of the supervisor that made a cookie.

    ``None`` for one of another pid namespace: on a host, the pid that a container's supervisor has says nothing.
    """
    _, *numbers = cookie.split(".")
    if len(numbers) != 3 or not all(number.isdigit() for number in numbers) or int(numbers[2]) != _pid_namespace():  # noqa: PLR2004
        return None
    return ProcessKey(int(numbers[0]), int(numbers[1]))


def find_survivors(runs: Iterable[Path] = ()) -> list[Survivor]:
    """Return live processes that a crashcart which is gone has left: by cookie, cgroup, its ledgers, and descent.

    Args:
        runs: Run directories whose ledgers are read, too; they also know processes that cleared their environment.
    """
    found = {survivor.key: survivor for survivor in (*_by_cookie(), *_by_group())}
    for directory in runs:
        found |= {survivor.key: survivor for survivor in _by_ledger(directory)}
    found |= {survivor.key: survivor for survivor in _by_descent(found)}
    spared = _ourselves()
    return [found[key] for key in sorted(found) if key not in spared]


def end_survivor(survivor: Survivor, grace_s: float = 3.0) -> bool:
    """End exactly that process, with SIGTERM and then SIGKILL; true when it is gone."""
    try:
        pidfd = os.pidfd_open(survivor.key.pid)
    except OSError:
        return True
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not proc.is_alive(survivor.key):
                return True
            signal.pidfd_send_signal(pidfd, number)
            select.select([pidfd], [], [], grace_s)
    except ProcessLookupError:
        return True
    finally:
        os.close(pidfd)
    return not proc.is_alive(survivor.key)


def _pid_namespace() -> int:
    """Return the number of our pid namespace, 0 where /proc does not tell."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _by_ledger(directory: Path) -> Iterator[Survivor]:
    """Yield the processes of a run that has no end, whose supervisor is gone, and that are alive."""
    alive: dict[ProcessKey, str] = {}
    cookie = ""
    for event in iterate_events(directory):
        if isinstance(event, AttemptStarted):
            cookie = event.cookie
        elif isinstance(event, ProcessBorn) or (isinstance(event, ProcessRenamed) and event.key in alive):
            alive[event.key] = event.name
        elif isinstance(event, ProcessDied):
            alive.pop(event.key, None)
        elif isinstance(event, RunEnded):
            return
    supervisor = supervisor_of(cookie)
    if supervisor is None or proc.is_alive(supervisor):
        return
    for key, title in alive.items():
        if proc.is_alive(key):
            yield Survivor(key=key, title=proc.read_title(key.pid) or title, cookie=cookie)


def _by_descent(found: Mapping[ProcessKey, Survivor]) -> Iterator[Survivor]:
    """Yield the descendants of survivors: one that clears its environment may be too young for the ledger."""
    children: dict[int, list[proc.Stat]] = {}
    for stat in filter(None, map(proc.read_stat, proc.all_pids() if found else ())):
        children.setdefault(stat.ppid, []).append(stat)
    todo = list(found.values())
    for parent in todo:
        for stat in children.get(parent.key.pid, ()):
            if stat.key not in found and stat.state not in "ZX":
                title = proc.read_title(stat.pid) or stat.comm
                todo.append(Survivor(key=stat.key, title=title, cookie=parent.cookie))
    yield from todo[len(found) :]


def _ourselves() -> frozenset[ProcessKey]:
    """Return this process and its ancestors, which are nobody's survivors even in a shell that is one."""
    keys = []
    stat = proc.read_stat(os.getpid())
    while stat is not None:
        keys.append(stat.key)
        stat = proc.read_stat(stat.ppid)
    return frozenset(keys)


def _by_cookie() -> list[Survivor]:
    """Return live processes with the cookie of a supervisor that is dead; what may not be read is not seen."""
    found = []
    for pid in proc.all_pids():
        cookie = proc.read_cookie(pid, COOKIE.encode())
        supervisor = supervisor_of(cookie) if cookie else None
        if cookie is None or supervisor is None or proc.is_alive(supervisor):
            continue
        stat = proc.read_stat(pid)
        if stat is not None and stat.state not in "ZX":
            found.append(Survivor(key=stat.key, title=proc.read_title(pid) or stat.comm, cookie=cookie))
    return found


def _by_group() -> Iterator[Survivor]:
    """Yield the processes in cgroups of a crashcart that is gone; groups that are empty are removed on the way."""
    for cookie, folder in cgroup.left_groups():
        supervisor = supervisor_of(cookie)
        if supervisor is None or proc.is_alive(supervisor):
            continue
        for pid in cgroup.members(folder):
            stat = proc.read_stat(pid)
            if stat is not None and stat.state not in "ZX":
                yield Survivor(key=stat.key, title=proc.read_title(pid) or stat.comm, cookie=cookie)
        cgroup.remove(folder)
