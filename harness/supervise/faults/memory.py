"""Memory that runs out: a full tmpfs, and a limit on the address space of a process."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
from pathlib import Path
from typing import Final

from harness.events import ProcessKey
from harness.probes import proc
from harness.spec import FillShm, LimitMemory
from harness.supervise.faults.performer import FaultError
from harness.supervise.ledger import Entry

MIB: Final = 1 << 20
CHUNK: Final = 64 * MIB
"""How much is allocated at a time, in bytes: a few tens of milliseconds, then the tree is looked at again."""
SPARE: Final = 512 * MIB
"""Memory that must stay available on the machine when a tmpfs is full, in bytes."""


class ShmFault:
    """Fills a file system with one file that has no name: the kernel frees it when we end, however we end."""

    def __init__(self, action: FillShm) -> None:
        self._folder = action.folder
        self._leave = action.leave_bytes
        self._file: int | None = None
        self._size = 0

    @property
    def target(self) -> str:
        """The folder."""
        return self._folder

    @property
    def key(self) -> ProcessKey | None:
        """No process."""
        return None

    @property
    def lasts(self) -> bool:
        """Yes: the file stays open."""
        return True

    def perform(self) -> None:
        """Make the file, unless filling would take memory that the machine does not have."""
        need = self._free() - self._leave
        spare = _memory_available() - SPARE
        if _is_in_memory(self._folder) and need > spare:
            msg = (
                f"{self._folder} has {need // MIB} MiB to fill, and {max(0, spare) // MIB} MiB of memory can be spared"
            )
            raise FaultError(msg)
        try:
            self._file = os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            msg = f"no file can be made in {self._folder}: {error.strerror}"
            raise FaultError(msg) from error

    def confirm(self) -> str | None:
        """Allocate the next part; the file system itself says when it is full."""
        if self._file is None:
            return None
        free = self._free()
        unit = os.statvfs(self._folder).f_frsize
        part = min(CHUNK, free - self._leave) // unit * unit
        if part > 0:
            try:
                os.posix_fallocate(self._file, self._size, part)
            except OSError as error:
                if error.errno != errno.ENOSPC:  # somebody else was quicker; the next look tells
                    raise
            else:
                self._size += part
            return None
        return f"{self._folder} has {free} bytes left, {self._size} of it are taken by the fault"

    def undo(self) -> str | None:
        """Give the space back."""
        if self._file is None:
            return None
        before = self._free()
        os.close(self._file)
        self._file = None
        return f"{self._folder} has {self._free()} bytes left, {before} before"

    def _free(self) -> int:
        stat = os.statvfs(self._folder)
        return stat.f_bavail * stat.f_frsize


class MemoryFault:
    """Lowers the soft limit of the address space, which any owner of the process may raise again."""

    def __init__(self, action: LimitMemory, entry: Entry) -> None:
        self._headroom = action.headroom_bytes
        self._entry = entry
        self._before: tuple[int, int] | None = None
        self._limit = 0

    @property
    def target(self) -> str:
        """The title of the process."""
        return self._entry.name

    @property
    def key(self) -> ProcessKey | None:
        """The process."""
        return self._entry.key

    @property
    def lasts(self) -> bool:
        """Yes: the limit stays."""
        return True

    def perform(self) -> None:
        """Set the limit above what the process has now."""
        pid = self._entry.key.pid
        size = re.search(r"^VmSize:\s*(\d+) kB$", _text(f"/proc/{pid}/status"), re.MULTILINE)
        if not proc.is_alive(self._entry.key) or size is None:
            msg = f"{self._entry.name} is gone"
            raise FaultError(msg)
        soft, hard = resource.prlimit(pid, resource.RLIMIT_AS)
        wanted = int(size[1]) * 1024 + self._headroom
        bounds = [bound for bound in (wanted, soft, hard) if bound != resource.RLIM_INFINITY]
        self._limit = min(bounds)
        resource.prlimit(pid, resource.RLIMIT_AS, (self._limit, hard))
        self._before = (soft, hard)

    def confirm(self) -> str | None:
        """Read the limit off /proc."""
        if not self._entry.running:
            msg = f"{self._entry.name} ended before its limit was seen"
            raise FaultError(msg)
        if _address_space(self._entry.key.pid) != str(self._limit):
            return None
        return f"{self._entry.name} may have {self._limit} bytes of address space"

    def undo(self) -> str | None:
        """Restore the limit that it had."""
        if self._before is None:
            return None
        before, self._before = self._before, None
        pid = self._entry.key.pid
        if not proc.is_alive(self._entry.key):
            return f"{self._entry.name} is gone"
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_AS, before)
        soft = "unlimited" if before[0] == resource.RLIM_INFINITY else str(before[0])
        if proc.is_alive(self._entry.key) and _address_space(pid) not in {soft, ""}:
            msg = f"{self._entry.name} still has a limit of {_address_space(pid)} bytes"
            raise FaultError(msg)
        return f"{self._entry.name} has its limit of before: {soft}"


def _address_space(pid: int) -> str:
    """Return the soft limit as /proc/PID/limits shows it: bytes or ``unlimited``; empty for a process that is gone."""
    found = re.search(r"^Max address space\s+(\S+)", _text(f"/proc/{pid}/limits"), re.MULTILINE)
    return found[1] if found else ""


def _memory_available() -> int:
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", _text("/proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _is_in_memory(folder: str) -> bool:
    device = Path(folder).stat().st_dev
    number = f" {os.major(device)}:{os.minor(device)} "
    mounts = (line for line in _text("/proc/self/mountinfo").splitlines() if number in line)
    return any(line.partition(" - ")[2].startswith(("tmpfs ", "ramfs ")) for line in mounts)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
