"""SIGKILL of crashcart itself at a given moment of a watched tree, and what can be read and named afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import harness
from harness.probes.proc import read_stat
from harness.record import iterate_events, read_run
from harness.supervise.cookie import Survivor, end_survivor, find_survivors

MARK: Final = f".{os.getpid():07}"
"""A fraction of a second that no sleep of anybody else has."""
TREE: Final = (
    f"sleep 600{MARK} & (setsid sleep 601{MARK} &); env -i sleep 602{MARK} & "
    f"for i in 1 2 3 4 5 6 7 8 9; do sleep 0.05; done; sleep 603{MARK}"
)
"""A tree that would live on: a child, one in a session of its own, one without environment, one that comes late."""
WHOLE: Final = 5
"""The shell and its four sleepers."""
BEYOND: Final = 1.3
"""Moments are drawn from the time until the whole tree lives, and this much beyond it: on a busy machine it is long."""
EXEC_S: Final = 2.0
"""How long a process that was being started may take to its exec, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Killed:
    """What is there after the supervisor was killed."""

    directory: Path
    survivors: tuple[Survivor, ...]
    alive: frozenset[int]
    """The processes of the tree that live, found without crashcart."""
    events: int
    looks: int
    """How often it was looked until all were named: one that was being started bears the cookie after its exec."""
    torn: int
    """Lines that cannot be read; at most the last one may be torn."""
    readable: bool
    """Whether there is no record yet, or one that reads as a run that did not end."""

    @property
    def wrong(self) -> str:
        """What does not hold, empty if all does."""
        unnamed = self.alive - {survivor.key.pid for survivor in self.survivors}
        faults = [
            "" if self.readable else "the record cannot be read",
            f"{self.torn} torn lines" if self.torn > 1 else "",
            f"{len(unnamed)} of {len(self.alive)} survivors are not named" if unnamed else "",
        ]
        return "; ".join(filter(None, faults))


def kill_after(seconds: float | None, folder: Path) -> Path:
    """Start a watched tree that would live on, kill the supervisor after so long, return the run directory.

    With ``None`` it is killed as soon as the whole tree lives.
    """
    env = {**os.environ, "PYTHONPATH": str(Path(harness.__file__).parent.parent)}
    command = [sys.executable, "-m", "harness", "watch", "--out", str(folder / "run"), "--", "sh", "-c", TREE]
    with subprocess.Popen(command, env=env, cwd=folder, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while seconds is None and not _whole() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(seconds or 0)
        process.send_signal(signal.SIGKILL)
    return folder / "run"


def settle_s(folder: Path) -> float:
    """Return how long it takes, in seconds, until the whole tree lives; nothing of it is left."""
    began = time.monotonic()
    directory = kill_after(None, folder)
    took = time.monotonic() - began
    _end_all(directory)
    return took


def kill_and_look(seconds: float, folder: Path) -> Killed:
    """Kill the supervisor at that moment, look at what is left, and end that."""
    directory = kill_after(seconds, folder)
    until = time.monotonic() + EXEC_S
    looks, alive = 0, frozenset({0})
    survivors: list[Survivor] = []
    while looks == 0 or (alive - {survivor.key.pid for survivor in survivors} and time.monotonic() < until):
        looks += 1
        survivors = find_survivors([directory])
        alive = frozenset(_alive())
    try:
        written = (directory / "run.json").exists()
        events = list(iterate_events(directory))
        return Killed(
            directory=directory,
            survivors=tuple(survivors),
            alive=alive,
            looks=looks,
            events=len(events),
            torn=sum(event is None for event in events),
            readable=not written or not read_run(directory).ended,
        )
    finally:
        _end_all(directory)


def _end_all(directory: Path) -> None:
    """End what is left, again and again: until its shell is gone, there may always be another one."""
    while survivors := find_survivors([directory]):
        for survivor in survivors:
            end_survivor(survivor, grace_s=1.0)


def _alive() -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and MARK.encode() in command_line(entry).rpartition(b"sleep\0")[2] and _runs(entry)
    ]


def _whole() -> bool:
    """Whether all four sleepers live, the late one too: after it, the shell starts nobody any more."""
    words = b"\0".join(command_line(Path(f"/proc/{pid}")) for pid in _alive())
    return all(f"sleep\0{seconds}{MARK}".encode() in words for seconds in (600, 601, 602, 603))


def _runs(entry: Path) -> bool:
    stat = read_stat(int(entry.name))
    return stat is not None and stat.state not in "ZX"


def command_line(entry: Path) -> bytes:
    """Return the command line of a process, its words ended by NUL; empty if it is gone."""
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""
