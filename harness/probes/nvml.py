"""NVIDIA's management library: GPUs, memory in use, and the processes that the driver knows, with their memory.

Through nvidia-ml-py (module ``pynvml``), which is optional. The driver does not know pid namespaces: in a container it
gives pids of the host (nvidia-docker#1483), so that a pid may be absent here, or belong to somebody else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from harness.probes.device_files import listed_holder
from harness.probes.gpu import GpuDevice, GpuReading, Unavailable, pci_address
from harness.probes.isolated import TIMEOUT_S, IsolatedReading, answer

NAME: Final = "nvml"
MIB: Final = 1 << 20
LISTS: Final = {
    "compute": "nvmlDeviceGetComputeRunningProcesses",
    "graphics": "nvmlDeviceGetGraphicsRunningProcesses",
    "MPS client": "nvmlDeviceGetMPSComputeRunningProcesses",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlProbe:
    """Asks NVML in a process of its own, so that a stuck driver blocks nobody and no device stays open here."""

    timeout_s: float = TIMEOUT_S
    env: Mapping[str, str] | None = None
    """Environment of that process; ours by default."""
    helpers: set[int] | None = field(default=None, hash=False)
    """Told the pid of that process (see `harness.supervise.observer`)."""

    @property
    def name(self) -> str:
        """``nvml``."""
        return NAME

    def start(self) -> IsolatedReading:
        """Begin a reading that can be polled from a loop."""
        return IsolatedReading("harness.probes.nvml", NAME, self.timeout_s, self.env, self.helpers)

    def read(self) -> GpuReading | Unavailable:
        """Return GPUs and their holders, or why NVML does not tell."""
        return self.start().wait()


def read_nvml() -> GpuReading | Unavailable:
    """Ask NVML in this process; may block as long as the driver does."""
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return Unavailable(probe=NAME, reason="nvidia-ml-py is not installed")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Unavailable(probe=NAME, reason=f"NVML does not start: {error}")
    try:
        return _read(nvml)
    except nvml.NVMLError as error:
        return Unavailable(probe=NAME, reason=f"NVML does not count the GPUs: {error}")
    finally:
        nvml.nvmlShutdown()


def _read(nvml: ModuleType) -> GpuReading | Unavailable:
    count = nvml.nvmlDeviceGetCount()
    if not count:
        return Unavailable(probe=NAME, reason="NVML is there and counts no GPU")
    devices, holders, notes = [], [], []
    for index in range(count):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            device = _device(nvml, handle, index)
        except nvml.NVMLError as error:
            notes.append(f"GPU {index} does not answer: {error}")
            continue
        devices.append(device)
        for kind, function in LISTS.items():
            try:
                listed = getattr(nvml, function)(handle)
            except (nvml.NVMLError, AttributeError) as error:
                notes.append(f"GPU {index} gives no list of {kind} processes: {error}")
                continue
            note = "" if kind == "compute" else kind
            for one in listed:
                mib = None if one.usedGpuMemory is None else one.usedGpuMemory // MIB
                holders.append(listed_holder(one.pid, mib=mib, source=NAME, gpu=device.uuid, note=note))
    return GpuReading(probe=NAME, devices=tuple(devices), holders=tuple(holders), notes=tuple(notes))


def _device(nvml: ModuleType, handle: object, index: int) -> GpuDevice:
    memory = _memory(nvml, handle)
    return GpuDevice(
        index=index,
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        vendor="nvidia",
        model=_text(nvml.nvmlDeviceGetName(handle)),
        memory_total_mib=memory.total // MIB if memory is not None else None,
        memory_used_mib=memory.used // MIB if memory is not None else None,
        utilisation_pct=_utilisation(nvml, handle),
        pci=pci_address(_text(nvml.nvmlDeviceGetPciInfo(handle).busId)),
    )


def _utilisation(nvml: ModuleType, handle: object) -> int | None:
    """Return the percentage of time with a kernel running; a MIG device has none."""
    try:
        return int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except (nvml.NVMLError, AttributeError):
        return None


def _memory(nvml: ModuleType, handle: object) -> Any:  # noqa: ANN401 - a structure of an optional library
    """Return the second version, whose ``used`` leaves the driver's own reserve (hundreds of MiB) out."""
    tries: tuple[Callable[[], Any], ...] = (
        lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2),
        lambda: nvml.nvmlDeviceGetMemoryInfo(handle),
    )
    for attempt in tries:
        try:
            return attempt()
        except (nvml.NVMLError, AttributeError, TypeError):
            continue
    return None


def _text(value: str | bytes) -> str:
    """Return text; releases of nvidia-ml-py before 11.5 give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


if __name__ == "__main__":
    answer(read_nvml)
