"""What /proc says about a process, cheaply and without stopping it. A process that is gone gives ``None`` or empty."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.events import ProcessKey

REQUESTS: Final = (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
"""Signals by which the outside tells an event loop to do something."""


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat that identify a process and say how it is."""

    pid: int
    comm: str
    state: str
    ppid: int
    start: int
    """Clock ticks since boot."""
    exit_code: int
    """The wait status of a zombie; 0 where the reader may not see it."""

    @property
    def key(self) -> ProcessKey:
        """The identity that no later process shares."""
        return ProcessKey(self.pid, self.start)


def read_stat(pid: int) -> Stat | None:
    """Read /proc/PID/stat."""
    data = read_bytes(f"/proc/{pid}/stat")
    if not data:
        return None
    head, _, tail = data.rpartition(b")")
    fields = tail.split()
    return Stat(
        pid=pid,
        comm=head.partition(b"(")[2].decode(errors="replace"),
        state=fields[0].decode(),
        ppid=int(fields[1]),
        start=int(fields[19]),
        exit_code=int(fields[49]),
    )


def is_alive(key: ProcessKey) -> bool:
    """Whether that very process exists and is no zombie."""
    stat = read_stat(key.pid)
    return stat is not None and stat.start == key.start and stat.state not in "ZX"


def read_title(pid: int) -> str:
    """Return the command line, or the title that a runtime gave itself; empty for a zombie or a kernel thread."""
    return read_bytes(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()[:400]


def read_cookie(pid: int, variable: bytes) -> str | None:
    """Return the value of an environment variable at the time of the last exec, if it may be read."""
    data = b"\0" + read_bytes(f"/proc/{pid}/environ")
    _, found, tail = data.partition(b"\0" + variable + b"=")
    return tail.partition(b"\0")[0].decode(errors="replace") if found else None


def read_load(loadavg: int) -> tuple[int, int]:
    """Return what the open /proc/loadavg says.

    How many threads of the machine run or want to, and the pid that was given out last in this pid namespace.
    """
    *_, threads, last = os.pread(loadavg, 128, 0).split()
    return int(threads.partition(b"/")[0]), int(last)


def all_pids() -> list[int]:
    """Return all processes that /proc lists."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def handles(pid: int, number: int) -> bool:
    """Whether a process catches a signal and has none of that number pending, so that one sent was delivered."""
    masks, bit = _signal_masks(pid), 1 << (number - 1)
    return bool(masks.get("SigCgt", 0) & bit) and not (masks.get("ShdPnd", 0) | masks.get("SigPnd", 0)) & bit


def handles_any(pid: int, numbers: Iterable[int]) -> bool:
    """Whether a process catches one of these signals."""
    caught = _signal_masks(pid).get("SigCgt", 0)
    return any(caught >> (number - 1) & 1 for number in numbers)


def _signal_masks(pid: int) -> dict[str, int]:
    status = read_bytes(f"/proc/{pid}/status").decode(errors="replace")
    found = re.findall(r"^(ShdPnd|SigPnd|SigCgt):\s*([0-9a-f]+)$", status, re.MULTILINE)
    return {name: int(mask, 16) for name, mask in found}


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A part of a file that a process has mapped, with the addresses from ``start`` up to ``stop``."""

    start: int
    stop: int
    offset: int
    """Where the part begins in the file, in bytes."""
    path: str
    identity: str
    """Device, inode and path."""


def mapped_files(pid: int) -> list[MappedFile]:
    """Return the parts of files that a process has mapped, by address; none if it is gone or not ours to read."""
    found = []
    for line in read_bytes(f"/proc/{pid}/maps").decode(errors="replace").split("\n"):
        words = line.split(maxsplit=5)
        if len(words) == 6 and words[4] != "0":  # noqa: PLR2004 - one without a path has five
            start, stop = (int(end, 16) for end in words[0].split("-"))
            found.append(MappedFile(start, stop, int(words[2], 16), words[5], " ".join(words[3:])))
    return found


def holds(pid: int, path: str) -> bool:
    """Whether a process maps a file or has it open."""
    if path.encode() in read_bytes(f"/proc/{pid}/maps"):
        return True
    folder = f"/proc/{pid}/fd"
    try:
        return any(_link(f"{folder}/{name}") == path for name in os.listdir(folder))
    except OSError:
        return False


def pid_max() -> int:
    """Return where pids wrap round."""
    return int(Path("/proc/sys/kernel/pid_max").read_text())


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def read_bytes(path: str) -> bytes:
    """Return the content of a small file of /proc, empty if it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        chunks = []
        while chunk := os.read(descriptor, 65536):
            chunks.append(chunk)
        return b"".join(chunks)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
