"""What every thread of a process waits for, read from /proc without stopping it.

/proc/PID/task/TID/syscall gives the blocking call and its arguments (kernel docs: Documentation/filesystems/proc.rst).
Descriptors lead to inodes, and inodes to the processes at the other end. Nothing here is a judgement.
"""

from __future__ import annotations

import os
import platform
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from harness.probes.proc import read_bytes

DELETED: Final = " (deleted)"
"""What the kernel appends to the name of an open file that has none any more."""


class WaitKind(StrEnum):
    """What kind of thing a thread waits for."""

    RUNNING = "running"
    FUTEX = "futex"
    DESCRIPTORS = "descriptors"
    CHILD = "child"
    SLEEP = "sleep"
    SIGNAL = "signal"
    OPEN = "open"
    """Of a FIFO for writing, until somebody opens it for reading."""
    OPEN_TO_READ = "open to read"
    """Of a FIFO for reading, until somebody opens it for writing: an idle server does this, too."""
    STOPPED = "stopped"
    UNINTERRUPTIBLE = "uninterruptible"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One thread's wait. ``timed`` tells that it ends by itself; descriptors only for `WaitKind.DESCRIPTORS`."""

    tid: int
    name: str
    kind: WaitKind
    call: str
    timed: bool = False
    descriptors: tuple[int, ...] = ()
    shared: bool = False
    """Whether a futex lies in memory that other processes may share."""
    address: int = 0
    wchan: str = ""
    switches: int = 0
    """How often it has been given a processor so far (third field of schedstat)."""
    ticks: int = 0
    """Processor time so far, in clock ticks."""
    queued_ns: int = 0
    """How long it has waited for a processor so far (second field of schedstat)."""


_X86: Final[Mapping[int, str]] = {
    0: "read", 1: "write", 7: "poll", 17: "pread64", 18: "pwrite64", 19: "readv", 20: "writev", 23: "select",
    34: "pause", 35: "nanosleep", 42: "connect", 43: "accept", 44: "sendto", 45: "recvfrom", 46: "sendmsg",
    47: "recvmsg", 56: "clone", 58: "vfork", 61: "wait4", 65: "semop", 72: "fcntl", 73: "flock", 128: "rt_sigtimedwait",
    130: "rt_sigsuspend", 202: "futex", 219: "restart_syscall", 220: "semtimedop", 230: "clock_nanosleep",
    232: "epoll_wait", 242: "mq_timedsend", 243: "mq_timedreceive", 247: "waitid", 257: "openat", 2: "open",
    270: "pselect6", 271: "ppoll", 281: "epoll_pwait", 288: "accept4", 299: "recvmmsg", 426: "io_uring_enter",
    435: "clone3", 441: "epoll_pwait2", 449: "futex_waitv",
}  # fmt: skip
_ARM: Final[Mapping[int, str]] = {
    63: "read", 64: "write", 65: "readv", 66: "writev", 67: "pread64", 68: "pwrite64", 72: "pselect6", 73: "ppoll",
    22: "epoll_pwait", 25: "fcntl", 32: "flock", 56: "openat", 95: "waitid", 98: "futex", 101: "nanosleep",
    115: "clock_nanosleep", 128: "restart_syscall", 133: "rt_sigsuspend", 137: "rt_sigtimedwait", 182: "mq_timedsend",
    183: "mq_timedreceive", 192: "semtimedop", 193: "semop", 202: "accept", 203: "connect", 206: "sendto",
    207: "recvfrom", 211: "sendmsg", 212: "recvmsg", 220: "clone", 242: "accept4", 243: "recvmmsg", 260: "wait4",
    426: "io_uring_enter", 435: "clone3", 441: "epoll_pwait2", 449: "futex_waitv",
}  # fmt: skip
SYSCALLS: Final = _ARM if platform.machine() == "aarch64" else _X86

ON_DESCRIPTOR: Final = frozenset(
    "read write readv writev pread64 pwrite64 connect accept accept4 sendto recvfrom sendmsg recvmsg recvmmsg".split()  # noqa: SIM905 - a list of names
)
NEVER: Final = 0xFFFFFFFF
FUTEX_PRIVATE: Final = 128
FUTEX_WAITS: Final = {0: True, 9: True, 6: True, 11: True}
"""Operations of futex(2) that wait and take a timeout: WAIT, WAIT_BITSET, LOCK_PI, WAIT_REQUEUE_PI."""


def read_waits(pid: int) -> list[Wait]:
    """Return what each thread of a process waits for; empty if the process is gone."""
    try:
        tids = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [wait for tid in tids if (wait := read_wait(pid, int(tid))) is not None]


def read_wait(pid: int, tid: int) -> Wait | None:
    """Return what one thread waits for, or ``None`` if it is gone."""
    base = f"/proc/{pid}/task/{tid}"
    stat = read_bytes(f"{base}/stat")
    if not stat:
        return None
    head, _, tail = stat.rpartition(b")")
    fields = tail.split()
    state = fields[0].decode()
    if state in "ZX":
        return None
    name = head.partition(b"(")[2].decode(errors="replace")
    ticks = int(fields[11]) + int(fields[12])
    queued_ns, switches = _scheduled(read_bytes(f"{base}/schedstat"))
    wchan = read_bytes(f"{base}/wchan").decode(errors="replace")
    common = {"tid": tid, "name": name, "wchan": wchan, "switches": switches, "ticks": ticks, "queued_ns": queued_ns}
    if state == "T":
        return Wait(kind=WaitKind.STOPPED, call="stopped", **common)  # type: ignore[arg-type]
    words = read_bytes(f"{base}/syscall").split()
    call, arguments = _call(words)
    if state == "D":
        return Wait(kind=WaitKind.UNINTERRUPTIBLE, call=call or wchan, **common)  # type: ignore[arg-type]
    if state == "R" or not words or words[0] == b"running":
        return Wait(kind=WaitKind.RUNNING, call="running", **common)  # type: ignore[arg-type]
    return Wait(**_decode(pid, call, arguments), **common)  # type: ignore[arg-type]


def _call(words: list[bytes]) -> tuple[str, list[int]]:
    if not words or not words[0].lstrip(b"-").isdigit():
        return "", []
    number = int(words[0])
    return SYSCALLS.get(number, f"syscall {number}"), [int(word, 16) for word in words[1:7]]


def _decode(pid: int, call: str, arguments: list[int]) -> dict[str, object]:  # noqa: C901, PLR0911 - one case a call
    match call:
        case "futex":
            operation = arguments[1] & 0x7F
            timed = FUTEX_WAITS.get(operation, False) and arguments[3] != 0
            shared = not arguments[1] & FUTEX_PRIVATE
            return {"kind": WaitKind.FUTEX, "call": call, "timed": timed, "shared": shared, "address": arguments[0]}
        case "nanosleep" | "clock_nanosleep" | "restart_syscall":
            return {"kind": WaitKind.SLEEP, "call": call, "timed": True}
        case "wait4" | "waitid":
            return {"kind": WaitKind.CHILD, "call": call}
        case "open" | "openat":
            flags = arguments[1 if call == "open" else 2]
            reading = flags & os.O_ACCMODE == os.O_RDONLY
            return {"kind": WaitKind.OPEN_TO_READ if reading else WaitKind.OPEN, "call": call}
        case "pause" | "rt_sigsuspend" | "rt_sigtimedwait":
            return {"kind": WaitKind.SIGNAL, "call": call}
        case "poll":
            timed = arguments[2] & NEVER != NEVER
            found = _poll_set(pid, arguments[0], arguments[1])
            return {"kind": WaitKind.DESCRIPTORS, "call": call, "timed": timed, "descriptors": found}
        case "ppoll":
            found = _poll_set(pid, arguments[0], arguments[1])
            return {"kind": WaitKind.DESCRIPTORS, "call": call, "timed": arguments[2] != 0, "descriptors": found}
        case "select" | "pselect6":
            found = _select_set(pid, arguments[0], arguments[1:4])
            return {"kind": WaitKind.DESCRIPTORS, "call": call, "timed": arguments[4] != 0, "descriptors": found}
        case "epoll_wait" | "epoll_pwait" | "epoll_pwait2":
            forever = arguments[3] == 0 if call == "epoll_pwait2" else arguments[3] & NEVER == NEVER
            found = _epoll_set(pid, arguments[0])
            return {"kind": WaitKind.DESCRIPTORS, "call": call, "timed": not forever, "descriptors": found}
        case "mq_timedsend" | "mq_timedreceive":
            queue = (arguments[0],)
            return {"kind": WaitKind.DESCRIPTORS, "call": call, "timed": arguments[4] != 0, "descriptors": queue}
        case _ if call in ON_DESCRIPTOR:
            return {"kind": WaitKind.DESCRIPTORS, "call": call, "descriptors": (arguments[0],)}
        case _:
            return {"kind": WaitKind.OTHER, "call": call}


def _scheduled(schedstat: bytes) -> tuple[int, int]:
    fields = schedstat.split()
    return (int(fields[1]), int(fields[2])) if len(fields) > 2 else (0, 0)  # noqa: PLR2004


def _memory(pid: int, address: int, size: int) -> bytes:
    try:
        descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(descriptor, size, address)
    except (OSError, OverflowError):
        return b""
    finally:
        os.close(descriptor)


def _poll_set(pid: int, address: int, count: int) -> tuple[int, ...]:
    """Return the descriptors of an array of ``struct pollfd``."""
    data = _memory(pid, address, 8 * min(count, 4096))
    return tuple(fd for fd, _, _ in struct.iter_unpack("=ihh", data[: len(data) // 8 * 8]) if fd >= 0)


def _select_set(pid: int, count: int, addresses: Iterable[int]) -> tuple[int, ...]:
    found: set[int] = set()
    for address in addresses:
        if address:
            bits = int.from_bytes(_memory(pid, address, (min(count, 1024) + 7) // 8), "little")
            found |= {fd for fd in range(min(count, 1024)) if bits >> fd & 1}
    return tuple(sorted(found))


def _epoll_set(pid: int, descriptor: int) -> tuple[int, ...]:
    info = read_bytes(f"/proc/{pid}/fdinfo/{descriptor}")
    return tuple(int(line.split()[1]) for line in info.splitlines() if line.startswith(b"tfd:"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What an open descriptor is: ``pipe:[1234]``, ``socket:[5678]``, ``anon_inode:[eventfd]``, a path."""

    number: int
    target: str
    writable: bool
    """Of a pipe's end; true for everything else."""
    detail: str = ""
    """For an eventfd its id, for a pidfd the pid, for a timerfd ``armed`` or nothing."""


def read_descriptor(pid: int, number: int) -> Descriptor | None:
    """Return what a descriptor of a process is, or ``None`` if it is closed."""
    try:
        target = os.readlink(f"/proc/{pid}/fd/{number}")
    except OSError:
        return None
    if target.endswith(DELETED):
        with suppress(OSError):
            inode = os.stat(f"/proc/{pid}/fd/{number}").st_ino  # noqa: PTH116 - a plain string
            return Descriptor(number=number, target=target, writable=True, detail=str(inode))
    if not target.startswith(("pipe:", "anon_inode:")):
        return Descriptor(number=number, target=target, writable=True)
    info = read_bytes(f"/proc/{pid}/fdinfo/{number}")
    lines = dict(line.partition(b":")[::2] for line in info.splitlines() if b":" in line)
    flags = int(lines.get(b"flags", b"0").strip() or b"0", 8)
    detail = ""
    if "eventfd" in target:
        detail = lines.get(b"eventfd-id", b"").strip().decode()
    elif "pidfd" in target:
        detail = lines.get(b"Pid", b"").strip().decode()
    elif "timerfd" in target:
        detail = "" if b"(0, 0)" in lines.get(b"it_value", b"(0, 0)") else "armed"
    return Descriptor(number=number, target=target, writable=flags & 3 != 0, detail=detail)


def read_descriptors(pid: int) -> list[Descriptor]:
    """Return all open descriptors of a process."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []
    return [found for number in numbers if (found := read_descriptor(pid, int(number))) is not None]
