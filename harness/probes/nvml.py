"""NVIDIA's management library: GPUs, memory in use, and the processes that the driver knows, with their memory.

Through nvidia-ml-py (module ``pynvml``), which is optional. The driver does not know pid namespaces: in a container it
gives pids of the host (nvidia-docker#1483), so that a pid may be absent here, or belong to somebody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from harness.probes.device_files import listed_holder
from harness.probes.gpu import GpuDevice, GpuReading, Unavailable, pci_address
from harness.probes.isolated import TIMEOUT_S, IsolatedReading, answer
from harness.probes.series import ReadingSeries

NAME: Final = "nvml"
MODULE: Final = "harness.probes.nvml"
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
        return IsolatedReading(MODULE, NAME, self.timeout_s, self.env, self.helpers)

    def series(self) -> ReadingSeries:
        """Return readings by one process, one after the other."""
        return ReadingSeries(MODULE, NAME, self.timeout_s, self.env, self.helpers)

    def read(self) -> GpuReading | Unavailable:
        """Return GPUs and their holders, or why NVML does not tell."""
        return self.start().wait()


def readings() -> Iterator[GpuReading | Unavailable]:
    """Open NVML in this process and ask it for every value taken; may block as long as the driver does.

    What is static about a GPU is asked once. Where NVML says nothing, that is the last value.
    """
    try:
        nvml = import_module("pynvml")
    except ImportError:
        yield Unavailable(probe=NAME, reason="nvidia-ml-py is not installed")
        return
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        yield Unavailable(probe=NAME, reason=f"NVML does not start: {error}")
        return
    known: dict[int, GpuDevice] = {}
    try:
        while count := nvml.nvmlDeviceGetCount():
            yield _read(nvml, count, known)
        yield Unavailable(probe=NAME, reason="NVML is there and counts no GPU")
    except nvml.NVMLError as error:
        yield Unavailable(probe=NAME, reason=f"NVML does not count the GPUs: {error}")
    finally:
        nvml.nvmlShutdown()


def _read(nvml: ModuleType, count: int, known: dict[int, GpuDevice]) -> GpuReading:
    """Ask what changes, and of GPUs that are not ``known`` also what does not."""
    devices, holders, notes = [], [], []
    for index in range(count):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            if index not in known:
                known[index] = _device(nvml, handle, index)
        except nvml.NVMLError as error:
            notes.append(f"GPU {index} does not answer: {error}")
            continue
        device = _in_use(nvml, handle, known[index])
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
    """Return what does not change about a GPU."""
    return GpuDevice(
        index=index,
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        vendor="nvidia",
        model=_text(nvml.nvmlDeviceGetName(handle)),
        pci=pci_address(_text(nvml.nvmlDeviceGetPciInfo(handle).busId)),
        arch=_arch(nvml, handle),
        nvlinks=_nvlinks(nvml, handle),
    )


def _in_use(nvml: ModuleType, handle: object, device: GpuDevice) -> GpuDevice:
    """Return a GPU with its memory, whose size comes in the same answer, and utilisation of now."""
    memory = _memory(nvml, handle)
    return replace(
        device,
        memory_total_mib=memory.total // MIB if memory is not None else None,
        memory_used_mib=memory.used // MIB if memory is not None else None,
        utilisation_pct=_utilisation(nvml, handle),
    )


def _arch(nvml: ModuleType, handle: object) -> str:
    try:
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    except (nvml.NVMLError, AttributeError):
        return ""
    return f"sm_{major}{minor}"


def _nvlinks(nvml: ModuleType, handle: object) -> int | None:
    """Return how many NVLinks are up; a GPU without any refuses the question."""
    up = 0
    for link in range(getattr(nvml, "NVML_NVLINK_MAX_LINKS", 18)):
        try:
            up += nvml.nvmlDeviceGetNvLinkState(handle, link) == 1
        except AttributeError:
            return None
        except nvml.NVMLError:
            break
    return up


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
    answer(readings())
