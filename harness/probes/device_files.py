"""Who has a GPU open, by the descriptors in /proc: needs no library, and is right in every pid namespace.

It tells nothing about amounts. It is the only source that shows a process whose leader has ended while threads live on
and keep the device: the driver's own list names nobody for it. What another user's processes hold is not readable
without privileges; those are counted in a note.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.probes import proc
from harness.probes.gpu import ENDED, OUTSIDE, GpuDevice, GpuHolder, GpuReading, ThreadState, Unavailable, pci_address

NAME: Final = "device_files"
LIMIT_S: Final = 5.0
"""How long one sweep over /proc may take, in seconds; what was not looked at by then is noted."""
VENDORS: Final = {"0x10de": "nvidia", "0x1002": "amd"}
"""PCI vendor numbers in /sys/class/drm/renderD*/device/vendor; render nodes of others are no concern here."""
INITIAL_PID_NAMESPACE: Final = 0xEFFFFFFC
_GPU_FILE: Final = re.compile(r"nvidia[\w-]*(/[\w-]+)?|kfd|dri/renderD\d+")
_DELETED: Final = " (deleted)"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFilesProbe:
    """Sweeps /proc for open GPU devices. ``root`` stands for / in front of /dev, /sys and /proc/driver, for tests."""

    root: Path = Path("/")
    limit_s: float = LIMIT_S

    @property
    def name(self) -> str:
        """``device_files``."""
        return NAME

    def read(self) -> GpuReading | Unavailable:
        """Return the GPUs that have device files and the processes that hold one open."""
        by_file, foreign = _devices(self.root)
        until = time.monotonic() + self.limit_s
        holders: list[GpuHolder] = []
        closed = late = 0
        for pid in proc.all_pids():
            if time.monotonic() > until:
                late += 1
                continue
            files = open_devices(pid, self.root)
            if files is None:
                closed += 1
                continue
            holders += _holders(pid, files - foreign, by_file)
        devices = tuple(dict.fromkeys(by_file.values()))
        if not holders and not _present(self.root, foreign):
            return Unavailable(probe=NAME, reason="there is no /dev/nvidia*, /dev/kfd or /dev/dri/renderD* of a GPU")
        notes = [f"{closed} processes of other users could not be looked into"] if closed else []
        if late:
            notes.append(f"{late} processes were not looked at: the limit of {self.limit_s:g} s was over")
        return GpuReading(probe=NAME, devices=devices, holders=tuple(holders), notes=tuple(notes))


def open_devices(pid: int, root: Path = Path("/")) -> set[str] | None:
    """Return the GPU files (``nvidia0``, ``kfd``, ``dri/renderD128``) that a process has open, or ``None`` if unknown.

    The leader of a process ends with its own descriptor table; those of its live threads are looked at then.
    """
    prefix = f"{root / 'dev'}/"
    files = _links(f"/proc/{pid}/fd", prefix)
    stat = proc.read_stat(pid)
    if stat is None:
        return set()
    if stat.state == "Z":
        found = [_links(f"/proc/{pid}/task/{thread.tid}/fd", prefix) for thread in live_threads(pid)]
        files = set().union(*(names for names in found if names is not None))
        return files if files or None not in found else None
    return files


def listed_holder(pid: int, *, mib: int | None, source: str, gpu: str, note: str = "") -> GpuHolder:
    """Return the holder that a driver lists by a pid of the initial pid namespace, as far as it can be seen here.

    Elsewhere than in that namespace the pid may be absent, or belong to somebody else; whoever uses a GPU has it open,
    which tells the two apart.
    """
    stat = proc.read_stat(pid)
    initial = _in_initial_pid_namespace()
    if stat is None:
        why = ENDED if initial else OUTSIDE
        return GpuHolder(pid=pid, name="", mib=mib, source=source, gpu=gpu, note=why)
    if not initial and open_devices(pid) == set():
        why = f"{OUTSIDE}: the process that is pid {pid} here has no GPU open"
        return GpuHolder(pid=pid, name="", mib=mib, source=source, gpu=gpu, note=why)
    name = proc.read_title(pid) or stat.comm
    threads = live_threads(pid) if stat.state == "Z" else ()
    return GpuHolder(
        pid=pid, name=name, mib=mib, source=source, gpu=gpu, start=stat.start, note=note, threads=threads
    )  # fmt: skip


def _in_initial_pid_namespace() -> bool:
    """Whether pids here are those that drivers know (the namespace's inode is PROC_PID_INIT_INO, linux/proc_ns.h)."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino == INITIAL_PID_NAMESPACE
    except OSError:
        return False


def live_threads(pid: int) -> tuple[ThreadState, ...]:
    """Return the threads of a process that can still do something, its leader left out."""
    try:
        tids = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return ()
    found = []
    for tid in tids:
        stat = proc.read_stat(tid) if tid != pid else None
        if stat is not None and stat.state not in "ZX":
            found.append(ThreadState(tid=tid, state=stat.state, wchan=_wchan(pid, tid)))
    return tuple(found)


def _holders(pid: int, files: set[str], by_file: dict[str, GpuDevice]) -> list[GpuHolder]:
    stat = proc.read_stat(pid) if files else None
    if stat is None:
        return []
    threads = live_threads(pid) if stat.state == "Z" else ()
    name = proc.read_title(pid) or stat.comm
    gpus = sorted({by_file[file].uuid for file in files if file in by_file}) or [""]
    note = f"has {', '.join(sorted(files))} open"
    return [
        GpuHolder(pid=pid, name=name, mib=None, source=NAME, gpu=gpu, start=stat.start, note=note, threads=threads)
        for gpu in gpus
    ]


def _devices(root: Path) -> tuple[dict[str, GpuDevice], set[str]]:
    """Return the GPUs by their device files, and the render nodes that belong to no GPU of ours."""
    by_file: dict[str, GpuDevice] = {}
    foreign: set[str] = set()
    for info in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        facts = dict(re.findall(r"^([\w ]+):[ \t]*(.*?)[ \t]*$", _text(info), re.MULTILINE))
        minor = facts.get("Device Minor", "")
        if not minor.isdigit():
            continue
        pci = pci_address(facts.get("Bus Location", info.parent.name))
        uuid = facts.get("GPU UUID", pci)
        model = facts.get("Model", "")
        by_file[f"nvidia{minor}"] = GpuDevice(index=int(minor), uuid=uuid, vendor="nvidia", model=model, pci=pci)
    known = {device.pci: device for device in by_file.values()}
    for node in sorted((root / "sys/class/drm").glob("renderD*")):
        vendor = VENDORS.get(_text(node / "device/vendor").strip())
        if vendor is None:
            foreign.add(f"dri/{node.name}")
            continue
        pci = pci_address((node / "device").resolve().name)
        index = len(set(by_file.values()))
        device = known.get(pci) or GpuDevice(index=index, uuid=pci, vendor=vendor, model="", pci=pci)
        by_file[f"dri/{node.name}"] = device
    return by_file, foreign


def _present(root: Path, foreign: set[str]) -> bool:
    folder = root / "dev"
    nodes = {f"dri/{path.name}" for path in (folder / "dri").glob("renderD*")} - foreign
    return bool(nodes) or (folder / "kfd").exists() or any(folder.glob("nvidia*"))


def _links(folder: str, prefix: str) -> set[str] | None:
    try:
        numbers = os.listdir(folder)
    except PermissionError:
        return None
    except OSError:
        return set()
    found = set()
    for number in numbers:
        try:
            target = os.readlink(f"{folder}/{number}")
        except OSError:
            continue
        file = target.removesuffix(_DELETED).removeprefix(prefix)
        if target.startswith(prefix) and _GPU_FILE.fullmatch(file):
            found.add(file)
    return found


def _wchan(pid: int, tid: int) -> str:
    """Return the kernel function in which a thread waits; empty if it runs, or for a reader without privileges."""
    name = _text(Path(f"/proc/{pid}/task/{tid}/wchan")).strip()
    return "" if name == "0" else name


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
