"""A slow disk: processes are moved to a cgroup whose reads and writes the kernel throttles.

What was tried: device-mapper's delay target needs a device of its own below the files, and the kernel module. The
throttle of cgroups needs neither, and touches nobody but the processes that are moved. Version 1 (hierarchy ``blkio``)
is what the tests run. The writes for version 2 (Documentation/admin-guide/cgroup-v2.rst) were done by hand on Linux
6.18: 1.5 MiB took 2 ms, then 1.49 s at 1 MiB/s, then 2 ms; this code has met version 2 on a made-up tree only.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.events import ProcessKey
from harness.probes import proc
from harness.spec import SlowDisk
from harness.supervise.faults.performer import FaultError
from harness.supervise.ledger import Entry

EMPTY_S: Final = 1.0
"""How long a cgroup that was emptied may stay in use, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """Where the block controller of cgroups is, and in which version."""

    mount: Path
    version: int

    def limits(self, device: str, bytes_per_s: int) -> dict[str, str]:
        """Return what is to be written to which file of a group."""
        if self.version == 1:
            line = f"{device} {bytes_per_s}"
            return {"blkio.throttle.read_bps_device": line, "blkio.throttle.write_bps_device": line}
        return {"io.max": f"{device} rbps={bytes_per_s} wbps={bytes_per_s}"}

    def group_of(self, pid: int) -> Path:
        """Return the folder of the group that a process is in.

        Raises:
            FaultError: If the process is gone.
        """
        for line in _text(Path(f"/proc/{pid}/cgroup")).splitlines():
            _, controllers, path = line.split(":", 2)
            if (controllers == "" and self.version == 2) or "blkio" in controllers.split(","):  # noqa: PLR2004 - v2
                return self.mount / path.lstrip("/")
        msg = f"pid {pid} is gone"
        raise FaultError(msg)


def find_hierarchy(mounts: str | None = None) -> Hierarchy:
    """Return the hierarchy whose block controller can be used here; ``mounts`` is the text of /proc/self/mounts.

    Raises:
        FaultError: With what is missing: no such controller, or no right to make a group.
    """
    text = _text(Path("/proc/self/mounts")) if mounts is None else mounts
    fields = [line.split() for line in text.splitlines()]
    found = [Hierarchy(mount=Path(one[1]), version=1) for one in fields if one[2] == "cgroup" and "blkio" in one[3]]
    found += [
        Hierarchy(mount=Path(one[1]), version=2)
        for one in fields
        if one[2] == "cgroup2" and "io" in _text(Path(one[1]) / "cgroup.controllers").split()
    ]
    if not found:
        msg = "a slow disk needs the block controller of cgroups, which no hierarchy here has"
        raise FaultError(msg)
    if not os.access(found[0].mount / "cgroup.procs", os.W_OK):
        msg = f"a slow disk needs the right to make cgroups: {found[0].mount} is not writable"
        raise FaultError(msg)
    return found[0]


def disk_of(path: str) -> str:
    """Return ``MAJOR:MINOR`` of the whole disk that a path is on.

    Raises:
        FaultError: If there is none behind it, as with tmpfs, overlayfs and network file systems.
    """
    number = Path(path).stat().st_dev
    block = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not block.exists():
        msg = f"no block device is behind {path}"
        raise FaultError(msg)
    if (block / "partition").exists():
        return (block.resolve().parent / "dev").read_text().strip()
    return block.name


class DiskFault:
    """Moves the processes to a group of their own, and back."""

    def __init__(self, name: str, action: SlowDisk, entries: list[Entry], hierarchy: Hierarchy | None = None) -> None:
        self._action = action
        self._entries = entries
        self._hierarchy = hierarchy
        self._label = re.sub(r"\W", "_", name)
        self._group: Path | None = None
        self._home: dict[int, Path] = {}
        self._enabled = False

    @property
    def target(self) -> str:
        """The processes and the path."""
        return f"{', '.join(entry.name[:60] for entry in self._entries[:3])} on {self._action.path}"

    @property
    def key(self) -> ProcessKey | None:
        """The first of the processes."""
        return self._entries[0].key

    @property
    def lasts(self) -> bool:
        """Yes: the limit stays."""
        return True

    def perform(self) -> None:
        """Make the group, set its limits, move the processes."""
        self._hierarchy = self._hierarchy or find_hierarchy()
        limits = self._hierarchy.limits(disk_of(self._action.path), self._action.bytes_per_s)
        group = self._hierarchy.mount / f"crashcart-{os.getpid()}-{self._label}"
        group.mkdir()
        self._group = group
        self._enable(self._hierarchy)
        for file, line in limits.items():
            _write(group / file, line)
        for entry in self._entries:
            if proc.is_alive(entry.key):
                self._home[entry.key.pid] = self._hierarchy.group_of(entry.key.pid)
                _write(group / "cgroup.procs", str(entry.key.pid))

    def confirm(self) -> str | None:
        """Read limits and members back."""
        if self._group is None or self._hierarchy is None:
            return None
        limits = self._hierarchy.limits(disk_of(self._action.path), self._action.bytes_per_s)
        shown = {file: _text(self._group / file) for file in limits}
        members = _members(self._group)
        if not members:
            msg = "every process that was to have a slow disk is gone"
            raise FaultError(msg)
        if any(line.split()[0] not in shown[file] for file, line in limits.items()):
            return None
        return f"{len(members)} processes read and write {self._action.bytes_per_s} bytes/s at most ({self._group})"

    def undo(self) -> str | None:
        """Move every process of the group back, its later children too, and remove the group."""
        group, self._group = self._group, None
        if group is None:
            return None
        home = next(iter(self._home.values()), group.parent)
        until = time.monotonic() + EMPTY_S
        while True:
            for pid in _members(group):
                with contextlib.suppress(FaultError):  # it is ending
                    _write(self._home.get(pid, home) / "cgroup.procs", str(pid))
            try:
                group.rmdir()
                break
            except OSError as error:
                if time.monotonic() > until:
                    msg = f"{group} cannot be removed: {error.strerror}"
                    raise FaultError(msg) from error
                time.sleep(0.01)
        if self._enabled:
            _write(group.parent / "cgroup.subtree_control", "-io")
        return "the processes are in the cgroup that they were in"

    def _enable(self, hierarchy: Hierarchy) -> None:
        """Let groups of version 2 have the block controller; version 1 always does."""
        control = hierarchy.mount / "cgroup.subtree_control"
        if hierarchy.version == 1 or "io" in _text(control).split():
            return
        _write(control, "+io")
        self._enabled = True


def _members(group: Path) -> list[int]:
    return [int(line) for line in _text(group / "cgroup.procs").split()]


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        msg = f"{path} does not take {text!r}: {error.strerror}"
        raise FaultError(msg) from error


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
