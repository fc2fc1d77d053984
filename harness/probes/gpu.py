"""GPUs, who holds them, and what the figures of several probes mean together. Nothing here opens a device.

A probe gives what its one source shows, or says why it shows nothing; `survey` puts the sources together, and
`explain` says which memory is held by whom, and which by nobody that can be seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol

from harness.events import ProcessKey

TOLERANCE_MIB: Final = 64
"""Memory in use beyond the sum of its processes that is not worth a finding, in MiB per GPU.

Seen on an H100 (driver 580.159): 0 MiB without any process once the driver's own reserve (480 MiB) is left out, and 8
and 14 MiB beyond the sum of one and two PyTorch processes.
"""
OUTSIDE: Final = "not in this pid namespace"
"""How the note of a holder begins whose pid means nothing among the processes that are seen here."""
ENDED: Final = "ended, but still listed by the driver"
"""How the note of a holder begins that is gone from /proc; its memory follows within seconds, or never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuDevice:
    """A GPU as one source shows it. Memory is in MiB, and ``None`` where the source does not tell."""

    index: int
    uuid: str
    """What holders refer to; the PCI address where a source knows no UUID."""
    vendor: str
    """``nvidia``, ``amd``, or empty where the source does not tell."""
    model: str
    memory_total_mib: int | None = None
    memory_used_mib: int | None = None
    utilisation_pct: int | None = None
    pci: str = ""
    """``DOMAIN:BUS:DEVICE.FUNCTION`` in lower case with a domain of four digits, or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadState:
    """A thread that is still alive under a leader that is not: its state letter and the kernel function it waits in."""

    tid: int
    state: str
    wchan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHolder:
    """A process that has a GPU in use, by one source."""

    pid: int
    name: str
    mib: int | None
    """Memory that it holds there in MiB; ``None`` where the source does not tell."""
    source: str
    gpu: str
    """The `GpuDevice.uuid`; empty where the source shows a driver's common device only."""
    start: int = 0
    """Start time of the process in clock ticks since boot, 0 where it could not be read."""
    note: str = ""
    """What a reader must know of it, such as ``not in this pid namespace``."""
    threads: tuple[ThreadState, ...] = ()
    """Live threads of a zombie leader; empty for every other process."""

    @property
    def key(self) -> ProcessKey:
        """The identity, to be looked up in a ledger."""
        return ProcessKey(self.pid, self.start)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """What one probe saw at one moment; ``notes`` say what it could not see."""

    probe: str
    devices: tuple[GpuDevice, ...] = ()
    holders: tuple[GpuHolder, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """A probe that can say nothing here, and why."""

    probe: str
    reason: str


class GpuProbe(Protocol):
    """One source. It never raises, and comes back within its own time limit also when a driver is stuck."""

    @property
    def name(self) -> str:
        """What `GpuHolder.source` and `Unavailable.probe` call it."""

    def read(self) -> GpuReading | Unavailable:
        """Look once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSurvey:
    """The readings of several probes as one: each GPU once, each holder as its source shows it."""

    devices: tuple[GpuDevice, ...]
    holders: tuple[GpuHolder, ...]
    unavailable: tuple[Unavailable, ...]
    notes: tuple[str, ...]


class GpuFindingKind(StrEnum):
    """What is said of memory, or of a device that is held open."""

    BY_LEDGER = "held_by_ledger"
    BY_OTHER = "held_by_other"
    ENDED = "held_by_ended"
    OUTSIDE = "held_outside_namespace"
    ZOMBIE = "held_by_zombie"
    UNACCOUNTED = "held_unaccounted"
    NO_OWNER = "held_no_owner"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFinding:
    """A conclusion about one GPU, or about devices that no GPU is known of (``gpu`` empty)."""

    kind: GpuFindingKind
    gpu: str
    mib: int | None
    holders: tuple[GpuHolder, ...]
    """Whom it is about; for memory without an owner, who has the device open without a figure."""
    reason: str
    ours: bool = False
    """Whether the holder is in the ledger; of one that has ended, by its pid alone."""


def survey(probes: Iterable[GpuProbe]) -> GpuSurvey:
    """Ask the probes one after the other (so that none sees another's helper) and merge what they say of each GPU.

    Sources that name a GPU differently are brought together by its PCI address; the first that names it is kept, and
    a figure that it lacks is taken from the later ones.
    """
    readings = [probe.read() for probe in probes]
    seen = [reading for reading in readings if isinstance(reading, GpuReading)]
    devices: dict[str, GpuDevice] = {}
    alias: dict[str, str] = {}
    for device in (device for reading in seen for device in reading.devices):
        name = alias.get(device.uuid) or alias.get(device.pci) or device.uuid
        devices[name] = _merged(devices[name], device) if name in devices else device
        alias.update({key: name for key in (device.uuid, device.pci) if key})
    return GpuSurvey(
        devices=tuple(devices.values()),
        holders=tuple(
            replace(holder, gpu=alias.get(holder.gpu, holder.gpu)) for reading in seen for holder in reading.holders
        ),
        unavailable=tuple(reading for reading in readings if isinstance(reading, Unavailable)),
        notes=tuple(f"{reading.probe}: {note}" for reading in seen for note in reading.notes),
    )


def explain(
    devices: Sequence[GpuDevice],
    holders: Sequence[GpuHolder],
    *,
    ledger: Collection[ProcessKey] = (),
    tolerance_mib: int = TOLERANCE_MIB,
) -> tuple[GpuFinding, ...]:
    """Say of every GPU who holds it, and which memory in use no holder accounts for.

    A process is ours only if its pid *and* start time are in ``ledger``. Figures of one process on one GPU from
    several sources are one figure (the largest), not a sum.
    """
    known = {device.uuid for device in devices}
    nowhere = _by_process(holder for holder in holders if holder.gpu == "")
    findings: list[GpuFinding] = []
    for device in devices:
        there = _by_process(holder for holder in holders if holder.gpu == device.uuid)
        findings += [_held(device.uuid, holder, ledger) for holder in there]
        findings += _missing(device, there, nowhere, tolerance_mib)
    elsewhere = _by_process(holder for holder in holders if holder.gpu not in known)
    findings += [_held(holder.gpu, holder, ledger) for holder in elsewhere if not _listed(holder, holders, known)]
    return tuple(findings)


def _merged(one: GpuDevice, other: GpuDevice) -> GpuDevice:
    return replace(
        one,
        vendor=one.vendor or other.vendor,
        model=one.model or other.model,
        memory_total_mib=other.memory_total_mib if one.memory_total_mib is None else one.memory_total_mib,
        memory_used_mib=other.memory_used_mib if one.memory_used_mib is None else one.memory_used_mib,
        utilisation_pct=other.utilisation_pct if one.utilisation_pct is None else one.utilisation_pct,
        pci=one.pci or other.pci,
    )


def _by_process(holders: Iterable[GpuHolder]) -> list[GpuHolder]:
    merged: dict[tuple[int, str], GpuHolder] = {}
    for holder in holders:
        # A pid of another namespace is not the process that has the same number here.
        key = (holder.pid, holder.gpu + (OUTSIDE if is_outside(holder) else ""))
        before = merged.get(key)
        if before is None:
            merged[key] = holder
            continue
        known = [mib for mib in (before.mib, holder.mib) if mib is not None]
        merged[key] = replace(
            before,
            mib=max(known, default=None),
            source=f"{before.source}, {holder.source}",
            start=before.start or holder.start,
            note=before.note or holder.note,
            threads=before.threads or holder.threads,
        )
    return list(merged.values())


def is_outside(holder: GpuHolder) -> bool:
    """Whether the pid is one of another pid namespace, which says nothing about the processes that are seen here."""
    return holder.note.startswith(OUTSIDE)


def _held(gpu: str, holder: GpuHolder, ledger: Collection[ProcessKey]) -> GpuFinding:
    ended = holder.note.startswith(ENDED)
    ours = not is_outside(holder) and (
        any(key.pid == holder.pid for key in ledger) if ended else bool(holder.start) and holder.key in ledger
    )
    who = f"pid {holder.pid} ({holder.name or 'name unknown'})"
    whose = "in the ledger" if ours else "not in the ledger"
    amount = "has it open" if holder.mib is None else f"holds {holder.mib} MiB"
    if is_outside(holder):
        kind, why = GpuFindingKind.OUTSIDE, holder.note
    elif ended:
        kind, why = GpuFindingKind.ENDED, f"{whose}, {holder.note}"
    elif holder.threads:
        threads = ", ".join(f"{one.tid} {one.state}{' in ' + one.wchan if one.wchan else ''}" for one in holder.threads)
        kind, why = GpuFindingKind.ZOMBIE, f"{whose}, its leader is a zombie and its threads live: {threads}"
    else:
        kind, why = GpuFindingKind.BY_LEDGER if ours else GpuFindingKind.BY_OTHER, whose
    reason = f"{who} {amount}; {why} (by {holder.source})"
    return GpuFinding(kind=kind, gpu=gpu, mib=holder.mib, holders=(holder,), reason=reason, ours=ours)


def _missing(
    device: GpuDevice, there: Sequence[GpuHolder], nowhere: Sequence[GpuHolder], tolerance_mib: int
) -> list[GpuFinding]:
    if device.memory_used_mib is None:
        return []
    accounted = sum(holder.mib or 0 for holder in there)
    missing = device.memory_used_mib - accounted
    if missing <= tolerance_mib:
        return []
    silent = tuple(holder for holder in there if holder.mib is None)
    pids = {holder.pid for holder in there}
    candidates = silent + tuple(holder for holder in nowhere if holder.pid not in pids)
    beyond = f"{missing} MiB are in use beyond the {accounted} MiB of processes"
    if any(holder.source.startswith(("nvml", "amdsmi")) for holder in silent):
        kind, why = GpuFindingKind.UNACCOUNTED, "the driver gives no figure for some of its processes"
    elif candidates:
        kind, why = GpuFindingKind.NO_OWNER, "these have the device open without a figure"
    else:
        kind, why = GpuFindingKind.NO_OWNER, "no process that can be seen has the device open"
    names = ", ".join(f"pid {holder.pid} ({holder.name or 'name unknown'})" for holder in candidates)
    reason = f"{beyond}; {why}{': ' + names if names else ''}"
    return [GpuFinding(kind=kind, gpu=device.uuid, mib=missing, holders=candidates, reason=reason)]


def _listed(holder: GpuHolder, holders: Sequence[GpuHolder], known: Collection[str]) -> bool:
    """Whether a holder of a driver's common device is named with a GPU, too."""
    return any(other.pid == holder.pid and other.gpu in known for other in holders if not is_outside(other))


def pci_address(text: str) -> str:
    """Return a PCI address in one form; NVML writes eight digits of domain, Xid lines leave the function out.

    Text that is no PCI address comes back in lower case.
    """
    domain, _, rest = text.strip().lower().partition(":")
    if ":" not in rest:
        return text.strip().lower()
    return f"{domain[-4:]}:{rest}" if "." in rest else f"{domain[-4:]}:{rest}.0"
