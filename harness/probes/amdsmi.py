"""AMD's management library: GPUs, VRAM in use, and the processes that the driver knows, with their VRAM.

Through the Python package ``amdsmi`` that comes with ROCm, which is optional. Not run on hardware: written from ROCm's
documentation of the Python API (amdsmi-py-api; units and field names from there: VRAM of a GPU in MiB, of a process in
bytes) and tested with a package of that shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from harness.probes.device_files import listed_holder
from harness.probes.gpu import GpuDevice, GpuHolder, GpuReading, Unavailable, pci_address
from harness.probes.isolated import TIMEOUT_S, IsolatedReading, answer

NAME: Final = "amdsmi"
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
        return IsolatedReading("harness.probes.amdsmi", NAME, self.timeout_s, self.env, self.helpers)

    def read(self) -> GpuReading | Unavailable:
        """Return GPUs and their holders, or why AMD SMI does not tell."""
        return self.start().wait()


def read_amdsmi() -> GpuReading | Unavailable:
    """Ask AMD SMI in this process; may block as long as the driver does."""
    try:
        smi = import_module("amdsmi")
    except ImportError:
        return Unavailable(probe=NAME, reason="ROCm's Python package amdsmi is not installed")
    except (OSError, KeyError) as error:  # the package loads libamd_smi.so while it is imported
        return Unavailable(probe=NAME, reason=f"amdsmi does not find its library: {error}")
    try:
        smi.amdsmi_init()
        handles = smi.amdsmi_get_processor_handles()
    except smi.AmdSmiException as error:
        return Unavailable(probe=NAME, reason=f"AMD SMI does not start: {error}")
    try:
        return _read(smi, handles)
    finally:
        smi.amdsmi_shut_down()


def _read(smi: ModuleType, handles: list[Any]) -> GpuReading | Unavailable:
    if not handles:
        return Unavailable(probe=NAME, reason="AMD SMI is there and counts no GPU")
    devices: list[GpuDevice] = []
    holders: list[GpuHolder] = []
    notes = []
    for index, handle in enumerate(handles):
        try:
            device = _device(smi, handle, index)
            devices.append(device)
            for one in smi.amdsmi_get_gpu_process_list(handle):
                # Before ROCm 6 the list holds handles that have to be asked for one by one.
                facts = one if isinstance(one, Mapping) else smi.amdsmi_get_gpu_process_info(handle, one)
                holders.append(_holder(device.uuid, facts))
        except smi.AmdSmiException as error:
            notes.append(f"GPU {index} does not answer in full: {error}")
    return GpuReading(probe=NAME, devices=tuple(devices), holders=tuple(holders), notes=tuple(notes))


def _device(smi: ModuleType, handle: object, index: int) -> GpuDevice:
    vram = smi.amdsmi_get_gpu_vram_usage(handle)
    return GpuDevice(
        index=index,
        uuid=str(smi.amdsmi_get_gpu_device_uuid(handle)),
        vendor="amd",
        model=str(smi.amdsmi_get_gpu_asic_info(handle)["market_name"]),
        memory_total_mib=_int(vram["vram_total"]),
        memory_used_mib=_int(vram["vram_used"]),
        pci=pci_address(str(smi.amdsmi_get_gpu_device_bdf(handle))),
    )


def _holder(gpu: str, facts: Mapping[str, Any]) -> GpuHolder:
    used = _int(facts["memory_usage"]["vram_mem"])
    return listed_holder(int(facts["pid"]), mib=None if used is None else used // MIB, source=NAME, gpu=gpu)


def _int(value: object) -> int | None:
    """Return a figure; the library writes ``N/A`` where it has none."""
    return value if isinstance(value, int) else None


if __name__ == "__main__":
    answer(read_amdsmi)
