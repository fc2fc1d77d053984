"""What /proc alone shows of a thread, as a stack of one frame: no tool, no stop, any program."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from harness.stacks.model import Frame, Process, ThreadStack

TOOL: Final = "proc"

_STATES: Final = {"R": "running", "T": "stopped", "t": "traced", "Z": "zombie", "X": "dead", "I": "idle"}
# The calls in which threads stay; numbers of include/uapi and arch/x86/entry/syscalls (stable by the kernel's promise).
_CALLS: Final = {
    "x86_64": {
        0: "read", 1: "write", 7: "poll", 16: "ioctl", 17: "pread64", 18: "pwrite64", 19: "readv", 20: "writev",
        22: "pipe", 23: "select", 34: "pause", 35: "nanosleep", 42: "connect", 43: "accept", 44: "sendto",
        45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 61: "wait4", 65: "semop", 69: "msgsnd", 70: "msgrcv",
        72: "fcntl", 73: "flock", 74: "fsync", 75: "fdatasync", 128: "rt_sigtimedwait", 130: "rt_sigsuspend",
        202: "futex", 219: "restart_syscall", 220: "semtimedop", 230: "clock_nanosleep", 232: "epoll_wait",
        247: "waitid", 257: "openat", 270: "pselect6", 271: "ppoll", 281: "epoll_pwait", 288: "accept4",
        426: "io_uring_enter", 449: "futex_waitv",
    },
    "aarch64": {
        22: "epoll_pwait", 25: "fcntl", 29: "ioctl", 32: "flock", 56: "openat", 63: "read", 64: "write", 65: "readv",
        66: "writev", 72: "pselect6", 73: "ppoll", 82: "fsync", 95: "waitid", 98: "futex", 101: "nanosleep",
        115: "clock_nanosleep", 128: "restart_syscall", 133: "rt_sigsuspend", 137: "rt_sigtimedwait", 192: "semtimedop",
        202: "accept", 203: "connect", 206: "sendto", 207: "recvfrom", 211: "sendmsg", 212: "recvmsg", 242: "accept4",
        260: "wait4", 426: "io_uring_enter", 449: "futex_waitv",
    },
}  # fmt: skip


class KernelThread(msgspec.Struct, frozen=True):
    """One thread as /proc/PID/task/TID shows it; ``syscall`` and ``wchan`` as their files hold them, or empty."""

    thread_id: int
    name: str = ""
    state: str = ""
    wchan: str = ""
    syscall: str = ""


def kernel_stacks(
    process: Process, threads: Iterable[KernelThread], *, sample: int = 0, machine: str = "x86_64"
) -> list[ThreadStack]:
    """Return one frame a thread: the call it stays in, with the kernel's wait channel as its file.

    A zombie, stopped or running thread is shown by its state. ``machine`` is ``uname -m`` of the target.
    """
    return [
        ThreadStack(
            process,
            (_frame(thread, _CALLS.get(machine, {})),),
            thread.thread_id,
            thread.name,
            thread.state,
            sample=sample,
            tool=TOOL,
        )
        for thread in threads
    ]


def _frame(thread: KernelThread, calls: dict[int, str]) -> Frame:
    channel = "" if thread.wchan in {"0", "[unknown]"} else thread.wchan
    number = thread.syscall.partition(" ")[0]
    if thread.state in _STATES:
        what = _STATES[thread.state]
    elif number.isdecimal():
        what = calls.get(int(number), f"syscall {number}")
    else:
        what = channel or "unknown"
    uninterruptible = " (uninterruptible)" if thread.state == "D" else ""
    return Frame(f"[kernel] {what}{uninterruptible}", channel if channel != what else "", native=True)
