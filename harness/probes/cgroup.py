"""A cgroup (version 2) for the processes of one attempt: membership that no process can leave by itself.

Needs no controller, only the right to make a child of our own group, which root has on most machines and an ordinary
user in a delegated tree (Documentation/admin-guide/cgroup-v2.rst, "Delegation").
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from harness.probes.proc import read_bytes

PREFIX: Final = "crashcart-"


def home() -> Path | None:
    """Return the folder of this process's own group, or ``None`` where there is no version 2 or it is not mounted."""
    mounts = (line.split() for line in read_bytes("/proc/self/mountinfo").decode(errors="replace").splitlines())
    mount = next((fields[4] for fields in mounts if "cgroup2" in fields[fields.index("-") + 1 :][:1]), None)
    group = path_of("self")
    if mount is None or group is None:
        return None
    folder = Path(mount) / group.lstrip("/")
    return folder if (folder / "cgroup.procs").exists() else None


def path_of(pid: int | str) -> str | None:
    """Return the group of a process as the kernel names it, or ``None`` if it is gone or there is no version 2."""
    for line in read_bytes(f"/proc/{pid}/cgroup").splitlines():
        if line.startswith(b"0::"):
            return line[3:].decode(errors="replace")
    return None


def probe() -> str | None:
    """Return why no group can be made here, or ``None`` if one can."""
    folder = home()
    if folder is None:
        return "no cgroup v2 is mounted"
    if not os.access(folder, os.W_OK) or not os.access(folder / "cgroup.procs", os.W_OK):
        return f"{folder} is not writable"
    return None


class Group:
    """A group of one attempt.

    Raises:
        OSError: If it cannot be made.
    """

    def __init__(self, cookie: str) -> None:
        base = home()
        if base is None:
            raise FileNotFoundError("no cgroup v2 is mounted")  # noqa: EM101, TRY003 - an OSError like the others
        self.name = PREFIX + cookie
        self._folder = base / self.name
        self._folder.mkdir()

    def add(self, pid: int) -> None:
        """Move a process into the group; its later children are born in it."""
        descriptor = os.open(self._folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"%d" % pid)
        finally:
            os.close(descriptor)

    def holds(self, pid: int) -> bool:
        """Whether a process is in the group, or in one below it."""
        path = path_of(pid)
        return path is not None and self.name in path.split("/")

    def pids(self) -> list[int]:
        """Return the processes of the group and of those below it."""
        return members(self._folder)

    def remove(self) -> None:
        """Remove the group; one that still has processes stays, and `doctor` removes it once it is empty."""
        remove(self._folder)


def left_groups() -> Iterator[tuple[str, Path]]:
    """Yield the cookie and the folder of each group of an attempt beside our own."""
    base = home()
    if base is not None:
        for folder in sorted(base.glob(f"{PREFIX}*")):
            yield folder.name.removeprefix(PREFIX), folder


def members(folder: Path) -> list[int]:
    """Return the processes of a group and of those below it."""
    listings = (folder, *folder.rglob("*/"))
    return [int(line) for listing in listings for line in read_bytes(str(listing / "cgroup.procs")).split()]


def remove(folder: Path) -> None:
    """Remove a group and those below it, as far as they are empty."""
    for below in sorted(folder.rglob("*/"), reverse=True):
        with suppress(OSError):
            below.rmdir()
    with suppress(OSError):
        folder.rmdir()
