"""The Linux calls that the standard library lacks: subreaper and exit information of a pidfd."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

PR_SET_CHILD_SUBREAPER: Final = 36
PIDFD_INFO_EXIT: Final = 1 << 3
_INFO: Final = struct.Struct("=QQ11Ii")
"""``struct pidfd_info``, version 0 (include/uapi/linux/pidfd.h): mask, cgroup id, eleven ids, exit code; 64 bytes."""
PIDFD_GET_INFO: Final = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11
"""``_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)``."""

SWITCH_S: Final = 0.0002
"""Longest time that another thread may keep `prompt`'s from the interpreter, in seconds (by default 5 ms)."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Let orphaned descendants be reparented to this process (PR_SET_CHILD_SUBREAPER, Linux 3.4).

    Raises:
        OSError: If the kernel refuses.
    """
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def prompt(*, realtime: bool) -> Iterator[None]:
    """Let the calling thread run as soon as it wakes, while in the context: it looks at children that live for 10 ms.

    The interpreter's other threads give way sooner. With ``realtime``, and the right to it (CAP_SYS_NICE), the thread
    is scheduled before all ordinary ones; children and new threads are not (SCHED_RESET_ON_FORK, sched(7)). It needs
    some percent of one processor, and the kernel leaves ordinary processes their share in any case.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    if realtime and policy == os.SCHED_OTHER:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        with suppress(OSError):
            os.sched_setscheduler(0, policy, parameter)


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
