"""Xid lines: what NVIDIA's driver wrote to the kernel's log about a failure of a GPU.

Their form and the meaning of the numbers: NVIDIA, "Xid Errors" (deploy/xid-errors). Text of dmesg, of the journal and
of /dev/kmsg is understood alike.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.probes.gpu import Unavailable, pci_address

NAME: Final = "xid"
KMSG: Final = Path("/dev/kmsg")
MAX_RECORDS: Final = 200_000
"""Where reading the kernel's log ends at the latest; its buffer holds fewer, unless it grows as fast as it is read."""
MEANINGS: Final = {
    13: "graphics engine exception: usually an out-of-bounds access of a kernel",
    31: "memory page fault of the GPU: an illegal address",
    32: "invalid or corrupted push buffer stream",
    43: "the GPU stopped processing: a fault of the application",
    45: "channels cleaned up after an earlier error, or as a process was ended",
    48: "double-bit memory error",
    63: "memory row remapping or page retirement recorded",
    64: "memory row remapping or page retirement failed",
    74: "NVLink error",
    79: "the GPU has fallen off the bus",
    94: "contained memory error",
    95: "uncontained memory error",
    119: "the GPU's system processor did not answer in time",
    120: "error in the GPU's system processor",
}
_XID: Final = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): (\d+)(?:, (.*))?")
_WHO: Final = re.compile(r"pid='?(\d+|<unknown>)'?(?:, name='?([^,']*)'?)?(?:, |$)")
_KMSG: Final = re.compile(r"\d+,\d+,(\d+),[^;]*;")
_DMESG: Final = re.compile(r"\[\s*(\d+\.\d+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Xid:
    """One Xid line."""

    code: int
    pci: str
    """As `harness.probes.gpu.GpuDevice.pci`."""
    pid: int | None
    """In the initial pid namespace; ``None`` where the driver did not know it."""
    name: str
    text: str
    boot_s: float | None
    """Seconds since boot, where the line tells."""

    @property
    def meaning(self) -> str:
        """What the number stands for; empty for one that is not in the table."""
        return MEANINGS.get(self.code, "")

    def describe(self) -> str:
        """Return it as one line for the record."""
        who = f", pid {self.pid} {self.name}".rstrip() if self.pid is not None else ""
        return f"Xid {self.code} of GPU {self.pci}{who}: {self.meaning or self.text or 'no meaning known here'}"


def parse_xids(text: str) -> tuple[Xid, ...]:
    """Return the Xid lines of a kernel log in their order."""
    return tuple(xid for line in text.splitlines() if (xid := _parse(line)) is not None)


def read_xids(path: Path = KMSG) -> tuple[Xid, ...] | Unavailable:
    """Return the Xid lines that the kernel still has; never waits for new ones."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return Unavailable(probe=NAME, reason=f"the kernel's log cannot be read: {path}: {error.strerror}")
    try:
        return parse_xids("".join(_records(descriptor)))
    except OSError as error:
        return Unavailable(probe=NAME, reason=f"the kernel's log cannot be read: {path}: {error.strerror}")
    finally:
        os.close(descriptor)


def xids_since(boot_s: float, path: Path = KMSG) -> tuple[Xid, ...]:
    """Return the Xid lines that came after a moment, in seconds since boot; none where the log cannot be read."""
    found = read_xids(path)
    return () if isinstance(found, Unavailable) else tuple(one for one in found if (one.boot_s or 0.0) >= boot_s)


def _records(descriptor: int) -> list[str]:
    """Return the records of /dev/kmsg (one a read, see Documentation/ABI/testing/dev-kmsg), or the parts of a file."""
    records = []
    for _ in range(MAX_RECORDS):
        try:
            data = os.read(descriptor, 8192)
        except BlockingIOError:
            break
        except BrokenPipeError:
            continue  # overwritten while it was read; the next read goes on behind it
        if not data:
            break
        records.append(data.decode(errors="replace"))
    return records


def _parse(line: str) -> Xid | None:
    found = _XID.search(line)
    if found is None:
        return None
    rest = found[3] or ""
    who = _WHO.match(rest)
    pid, name = (who[1], who[2] or "") if who else ("", "")
    return Xid(
        code=int(found[2]),
        pci=pci_address(found[1]),
        pid=int(pid) if pid.isdigit() else None,
        name="" if name == "<unknown>" else name,
        text=rest[who.end() :] if who else rest,
        boot_s=_boot_s(line),
    )


def _boot_s(line: str) -> float | None:
    if found := _KMSG.match(line):
        return int(found[1]) / 1e6
    found = _DMESG.search(line)
    return float(found[1]) if found else None
