"""The Linux calls that the standard library lacks: subreaper and exit information of a pidfd."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from typing import Final

PR_SET_CHILD_SUBREAPER: Final = 36
PIDFD_INFO_EXIT: Final = 1 << 3
_INFO: Final = struct.Struct("=QQ11Ii")
"""``struct pidfd_info``, version 0 (include/uapi/linux/pidfd.h): mask, cgroup id, eleven ids, exit code; 64 bytes."""
PIDFD_GET_INFO: Final = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11
"""``_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)``."""

SCHED_RESET_ON_FORK: Final = 1
PROMPT_NICE: Final = -10
PROMPT_SLICE_NS: Final = 100_000
_SCHED_ATTR: Final = struct.Struct("=IIQiIQQQ")
"""``struct sched_attr``, version 0: size, policy, flags, nice, priority, runtime (the slice), deadline, period."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Let orphaned descendants be reparented to this process (PR_SET_CHILD_SUBREAPER, Linux 3.4).

    Raises:
        OSError: If the kernel refuses.
    """
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def wake_promptly() -> None:
    """Ask the scheduler to run this process soon after it wakes: a short slice, and as root a better niceness.

    Our children do not inherit it. A kernel that knows no slices (before 6.12), or another niceness than the default,
    is left as it is. Source: sched_setattr(2), and ``struct sched_attr`` in include/uapi/linux/sched/types.h.
    """
    number = {"x86_64": 314, "aarch64": 274}.get(platform.machine())
    if number is None or os.getpriority(os.PRIO_PROCESS, 0) != 0:
        return
    for nice in (PROMPT_NICE, 0):
        attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, 0, SCHED_RESET_ON_FORK, nice, 0, PROMPT_SLICE_NS, 0, 0)
        if _libc.syscall(number, 0, ctypes.c_char_p(attributes), 0) == 0:
            return


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
