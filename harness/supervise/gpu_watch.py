"""Samples of the GPUs while a tree holds one: memory and utilisation over time, for the record and for hang detection.

Where the machine has no GPU, or the tree holds none, nothing is started at all. The driver's library is asked every few
seconds by one process that stays as long as the attempt, and never waited for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from harness.events import GpuHeld, GpuSampled, GpuUse, HarnessNote, ProcessKey
from harness.probes.amdsmi import AmdSmiProbe
from harness.probes.device_files import open_devices
from harness.probes.gpu import GpuReading
from harness.probes.nvml import NvmlProbe
from harness.probes.series import ReadingSeries
from harness.record import Sink
from harness.supervise.ledger import Ledger

EVERY_S: Final = 5.0
"""Seconds between two samples."""
BUSY_PCT: Final = 95
"""From this utilisation on a GPU is called busy; a kernel that waits for another rank shows 100."""
STALE_S: Final = 12.0
"""A sample older than this says nothing about now."""


class GpuWatch:
    """Takes the samples; `tick` is called often, and takes a millisecond at most."""

    def __init__(
        self,
        ledger: Ledger,
        sink: Sink,
        helpers: set[int],
        without: frozenset[str] = frozenset(),
        root: Path = Path("/"),
    ) -> None:
        self._ledger = ledger
        self._sink = sink
        self._series = _series(root, without, helpers)
        self._asked = False
        self._next = 0.0
        self._holding = False
        self._last: tuple[float, GpuReading] | None = None

    def tick(self, now: float) -> None:
        """Collect a sample that is there, and begin another one if it is time."""
        if self._series is None:
            return
        if self._asked:
            self._collect(self._series, now)
        elif now >= self._next and not self._series.over:
            self._next = now + EVERY_S
            self._holding = self._holding or any(open_devices(one.key.pid) for one in self._ledger.running())
            if self._holding:
                self._series.ask()
                self._asked = True

    def busy(self, keys: frozenset[ProcessKey], now: float) -> str:
        """Return in words which busy GPUs these processes hold by the last sample; empty if none, or not known."""
        if self._last is None or now - self._last[0] > STALE_S:
            return ""
        reading = self._last[1]
        pids = {key.pid for key in keys}
        held = {holder.gpu for holder in reading.holders if holder.pid in pids}
        busy = [
            f"GPU {device.index} is {device.utilisation_pct}% busy"
            for device in reading.devices
            if device.uuid in held and (device.utilisation_pct or 0) >= BUSY_PCT
        ]
        return ", ".join(busy)

    def close(self) -> None:
        """End the process that asks, so that it is no holder of a GPU when somebody looks for those that are left."""
        for pid in self._series.close() if self._series is not None else ():
            self._sink(HarnessNote(note=f"pid {pid}, which asked for samples of the GPUs, does not end on SIGKILL"))

    def _collect(self, series: ReadingSeries, now: float) -> None:
        found = series.poll()
        if found is None:
            return
        self._asked = False
        if isinstance(found, GpuReading):
            self._last = (now, found)
            self._sink(_sampled(found))
        elif series.over:
            self._sink(HarnessNote(note=f"GPUs are not sampled any more: {series.over}"))


def _series(root: Path, without: frozenset[str], helpers: set[int]) -> ReadingSeries | None:
    if "gpu" in without:
        return None
    if (root / "dev/nvidiactl").exists() and "nvml" not in without:
        return NvmlProbe(helpers=helpers).series()
    if (root / "dev/kfd").exists() and "amdsmi" not in without:
        return AmdSmiProbe(helpers=helpers).series()
    return None


def _sampled(reading: GpuReading) -> GpuSampled:
    index = {device.uuid: device.index for device in reading.devices}
    return GpuSampled(
        gpus=tuple(
            GpuUse(index=device.index, used_mib=device.memory_used_mib, utilisation_pct=device.utilisation_pct)
            for device in reading.devices
        ),
        holders=tuple(
            GpuHeld(pid=holder.pid, start=holder.start, gpu=index.get(holder.gpu, -1), mib=holder.mib)
            for holder in reading.holders
        ),
    )
