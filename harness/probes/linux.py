"""The Linux calls that the standard library lacks: subreaper, exit information of a pidfd, inotify."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
_INOTIFY_EVENT: Final = struct.Struct("iIII")
"""``struct inotify_event``: watch, mask, cookie, length of the name that follows."""
PIDFD_INFO_EXIT: Final = 1 << 3
_INFO: Final = struct.Struct("=QQ11Ii")
"""``struct pidfd_info``, version 0 (include/uapi/linux/pidfd.h): mask, cgroup id, eleven ids, exit code; 64 bytes."""
PIDFD_GET_INFO: Final = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11
"""``_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)``."""

CALM_LOOKS: Final = 250
"""For so many looks, a second of them, `Prompt` goes first after it has seen that processors are short."""
SWITCH_S: Final = 0.0002
"""Longest time that another thread may keep `Prompt`'s from the interpreter, in seconds (by default 5 ms)."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Let orphaned descendants be reparented to this process (PR_SET_CHILD_SUBREAPER, Linux 3.4).

    Raises:
        OSError: If the kernel refuses.
    """
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def end_with_parent(number: signal.Signals, parent: int) -> None:
    """Let the kernel send a signal to this process when its parent ends (PR_SET_PDEATHSIG); at once if it has ended."""
    _libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def watch_folder(folder: Path) -> int | None:
    """Return a descriptor that becomes readable when an entry appears in a folder, or ``None`` where there is none."""
    descriptor: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    if _libc.inotify_add_watch(descriptor, os.fsencode(folder), IN_CREATE | IN_MOVED_TO) < 0:
        os.close(descriptor)
        return None
    return descriptor


def read_appeared(descriptor: int) -> set[str]:
    """Return the names that have appeared in a watched folder since the last call."""
    try:
        data = os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return set()
    names, at = set(), 0
    while at < len(data):
        *_, length = _INOTIFY_EVENT.unpack_from(data, at)
        at += _INOTIFY_EVENT.size + length
        names.add(os.fsdecode(data[at - length : at].rstrip(b"\0")))
    return names - {""}


class Prompt:
    """Lets the calling thread run as soon as it wakes, while in the context: it looks at children that live for 10 ms.

    The interpreter's other threads give way sooner. With ``realtime``, and the right to it (CAP_SYS_NICE), the thread
    is scheduled before all ordinary ones while more of them want a processor than there are processors; children and
    new threads are not (SCHED_RESET_ON_FORK, sched(7)). It needs some percent of one processor, and the kernel leaves
    ordinary processes their share in any case. On a machine that is not busy the kernel would wake such a thread where
    it ran last, on top of the program that it watches, though another processor is idle.
    """

    def __init__(self, *, realtime: bool) -> None:
        self._processors = len(os.sched_getaffinity(0))
        self._may = realtime and os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER
        self._first = self._went = False
        self._calm = CALM_LOOKS

    def __enter__(self) -> Self:
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._may = False  # whoever looks afterwards, to end a tree, takes its turn
        sys.setswitchinterval(self._interval)
        if self._first:
            self._go_first(go=False)
        if self._went:
            with suppress(OSError):  # only who has CAP_SYS_NICE may take SCHED_RESET_ON_FORK back
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))

    def tell(self, runnable: int) -> None:
        """Take in how many threads of the machine run or want to, this one too (`proc.read_load`), at each look."""
        self._calm = 0 if runnable - 1 > self._processors else self._calm + 1
        if self._may and self._first != (self._calm < CALM_LOOKS):
            self._go_first(go=not self._first)

    def _go_first(self, *, go: bool) -> None:
        policy = os.SCHED_RR if go else os.SCHED_OTHER
        try:
            os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_param(int(go)))
            self._first, self._went = go, True
        except OSError:
            self._may = False


def probe_realtime() -> str | None:
    """Return why the supervisor cannot be scheduled before other processes, or ``None`` if it can; tried on a child."""
    child = os.fork()
    if child == 0:
        try:
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if number == 0:
        return None
    return f"{os.strerror(number)}: on a busy machine, children that live for some milliseconds may be missed"


def pidfd_exit_status(pidfd: int) -> int | None:
    """Return the wait status of a process that its own parent has reaped, or ``None`` if the kernel does not say.

    Available after the pidfd polls ``EPOLLHUP``, on Linux 6.15 and later, without privileges.
    """
    buffer = bytearray(_INFO.size)
    struct.pack_into("=Q", buffer, 0, PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, buffer)
    except OSError:
        return None
    fields = _INFO.unpack(buffer)
    return int(fields[-1]) if fields[0] & PIDFD_INFO_EXIT else None


def open_pidfd(pid: int) -> int | None:
    """Return a pidfd of a process.

    Raises:
        ProcessLookupError: If there is no such process, or not yet.

    ``None`` stands for a thread that leads no process, which has no pidfd of this kind.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.ENOENT}:
            return None
        raise


def probe_exit_info() -> str | None:
    """Return why pidfds give no exit information here, or ``None`` if they do; decided by trying it on a child."""
    if not hasattr(os, "pidfd_open"):
        return "this Python has no pidfd_open"
    child = os.fork()
    if child == 0:
        os._exit(7)
    try:
        pidfd = os.pidfd_open(child)
    except OSError as error:
        os.waitpid(child, 0)
        return f"pidfd_open: {error.strerror}"
    os.waitpid(child, 0)
    status = pidfd_exit_status(pidfd)
    os.close(pidfd)
    if status is None:
        return "the kernel gives no PIDFD_INFO_EXIT (Linux 6.15 or later does)"
    return None if os.waitstatus_to_exitcode(status) == 7 else "PIDFD_INFO_EXIT gave a wrong status"  # noqa: PLR2004
