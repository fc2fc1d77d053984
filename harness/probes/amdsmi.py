"""AMD's management library: GPUs, VRAM in use, and the processes that the driver knows, with their VRAM.

Through the Python package ``amdsmi`` that comes with ROCm, which is optional. Not run on hardware: written from ROCm's
documentation of the Python API (amdsmi-py-api; units and field names from there: VRAM of a GPU in MiB, of a process in
bytes) and tested with a package of that shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from harness.probes.device_files import listed_holder
from harness.probes.gpu import GpuDevice, GpuHolder, GpuReading, Unavailable, pci_address
from harness.probes.isolated import TIMEOUT_S, IsolatedReading, answer
from harness.probes.series import ReadingSeries

NAME: Final = "amdsmi"
MODULE: Final = "harness.probes.amdsmi"
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AmdSmiProbe:
    """Asks AMD SMI in a process of its own, so that a stuck driver blocks nobody and no device stays open here."""

    timeout_s: float = TIMEOUT_S
    env: Mapping[str, str] | None = None
    """Environment of that process; ours by default."""
    helpers: set[int] | None = field(default=None, hash=False)
    """Told the pid of that process (see `harness.supervise.observer`)."""

    @property
    def name(self) -> str:
        """``amdsmi``."""
        return NAME

    def start(self) -> IsolatedReading:
        """Begin a reading that can be polled from a loop."""
        return IsolatedReading(MODULE, NAME, self.timeout_s, self.env, self.helpers)

    def series(self) -> ReadingSeries:
        """Return readings by one process, one after the other."""
        return ReadingSeries(MODULE, NAME, self.timeout_s, self.env, self.helpers)

    def read(self) -> GpuReading | Unavailable:
        """Return GPUs and their holders, or why AMD SMI does not tell."""
        return self.start().wait()


def readings() -> Iterator[GpuReading | Unavailable]:
    """Open AMD SMI in this process and ask it for every value taken; may block as long as the driver does.

    What is static about a GPU is asked once. Where AMD SMI says nothing, that is the last value.
    """
    try:
        smi = import_module("amdsmi")
    except ImportError:
        yield Unavailable(probe=NAME, reason="ROCm's Python package amdsmi is not installed")
        return
    except (OSError, KeyError) as error:  # the package loads libamd_smi.so while it is imported
        yield Unavailable(probe=NAME, reason=f"amdsmi does not find its library: {error}")
        return
    try:
        smi.amdsmi_init()
        handles = smi.amdsmi_get_processor_handles()
    except smi.AmdSmiException as error:
        yield Unavailable(probe=NAME, reason=f"AMD SMI does not start: {error}")
        return
    known: dict[int, GpuDevice] = {}
    try:
        while handles:
            yield _read(smi, handles, known)
        yield Unavailable(probe=NAME, reason="AMD SMI is there and counts no GPU")
    finally:
        smi.amdsmi_shut_down()


def _read(smi: ModuleType, handles: list[Any], known: dict[int, GpuDevice]) -> GpuReading:
    """Ask what changes, and of GPUs that are not ``known`` also what does not."""
    devices: list[GpuDevice] = []
    holders: list[GpuHolder] = []
    notes = []
    for index, handle in enumerate(handles):
        try:
            if index not in known:
                known[index] = _device(smi, handle, index)
            device = _in_use(smi, handle, known[index])
            devices.append(device)
            for one in smi.amdsmi_get_gpu_process_list(handle):
                # Before ROCm 6 the list holds handles that have to be asked for one by one.
                facts = one if isinstance(one, Mapping) else smi.amdsmi_get_gpu_process_info(handle, one)
                holders.append(_holder(device.uuid, facts))
        except smi.AmdSmiException as error:
            notes.append(f"GPU {index} does not answer in full: {error}")
    return GpuReading(probe=NAME, devices=tuple(devices), holders=tuple(holders), notes=tuple(notes))


def _device(smi: ModuleType, handle: object, index: int) -> GpuDevice:
    """Return what does not change about a GPU."""
    return GpuDevice(
        index=index,
        uuid=str(smi.amdsmi_get_gpu_device_uuid(handle)),
        vendor="amd",
        model=str(smi.amdsmi_get_gpu_asic_info(handle)["market_name"]),
        pci=pci_address(str(smi.amdsmi_get_gpu_device_bdf(handle))),
    )


def _in_use(smi: ModuleType, handle: object, device: GpuDevice) -> GpuDevice:
    """Return a GPU with its memory of now, whose size comes in the same answer."""
    vram = smi.amdsmi_get_gpu_vram_usage(handle)
    return replace(device, memory_total_mib=_int(vram["vram_total"]), memory_used_mib=_int(vram["vram_used"]))


def _holder(gpu: str, facts: Mapping[str, Any]) -> GpuHolder:
    used = _int(facts["memory_usage"]["vram_mem"])
    return listed_holder(int(facts["pid"]), mib=None if used is None else used // MIB, source=NAME, gpu=gpu)


def _int(value: object) -> int | None:
    """Return a figure; the library writes ``N/A`` where it has none."""
    return value if isinstance(value, int) else None


if __name__ == "__main__":
    answer(readings())
