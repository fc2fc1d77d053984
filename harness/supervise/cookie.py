"""The mark in the environment of every process of an attempt.

It names the supervisor, so that survivors of a crashcart that was killed can be told from the processes of one that is
still at work.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

from harness.child import COOKIE
from harness.events import ProcessKey
from harness.probes import proc


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """A live process that a crashcart which is gone had started."""

    key: ProcessKey
    title: str
    cookie: str


def new_cookie() -> str:
    """Return ``<random>.<supervisor's pid>.<supervisor's start time>``."""
    stat = proc.read_stat(os.getpid())
    return f"{secrets.token_hex(8)}.{os.getpid()}.{stat.start if stat else 0}"


def supervisor_of(cookie: str) -> ProcessKey | None:
    """Return the identity of the supervisor that made a cookie."""
    parts = cookie.split(".")
    return ProcessKey(int(parts[1]), int(parts[2])) if len(parts) == 3 and all(p.isdigit() for p in parts[1:]) else None  # noqa: PLR2004


def find_survivors() -> list[Survivor]:
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
