"""AMD's compute driver in sysfs: GPUs of the topology, and VRAM and queues of each process. Needs no library.

Not run on hardware: written from the driver's source (drivers/gpu/drm/amd/amdkfd/kfd_process.c and kfd_topology.c) and
from the kernel's description of amdgpu's memory files (Documentation/gpu/amdgpu/driver-misc.rst), tested on trees of
that shape. The driver names processes by pids of the initial pid namespace.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.probes.device_files import listed_holder
from harness.probes.gpu import GpuDevice, GpuHolder, GpuReading, Unavailable

NAME: Final = "kfd"
MIB: Final = 1 << 20
_VRAM_HEAPS: Final = {"1", "2"}
"""HSA_MEM_HEAP_TYPE_FB_PUBLIC and FB_PRIVATE (kfd_crat.h); heap 0 is the memory of the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KfdProbe:
    """Reads /sys/class/kfd and /sys/class/drm below ``root``."""

    root: Path = Path("/")

    @property
    def name(self) -> str:
        """``kfd``."""
        return NAME

    def read(self) -> GpuReading | Unavailable:
        """Return the GPUs and the processes that the compute driver knows, or why it shows none."""
        kfd = self.root / "sys/class/kfd/kfd"
        if not kfd.is_dir():
            return Unavailable(probe=NAME, reason="there is no /sys/class/kfd: amdgpu's compute driver is not loaded")
        devices = _devices(self.root, kfd / "topology/nodes")
        if not devices:
            return Unavailable(probe=NAME, reason="the topology in /sys/class/kfd shows no GPU")
        holders: list[GpuHolder] = []
        refused = 0
        for process in sorted((kfd / "proc").glob("[0-9]*")):
            found = _holders(process, devices)
            if found is None:
                refused += 1
            else:
                holders += found
        notes = (f"{refused} processes could not be read",) if refused else ()
        return GpuReading(probe=NAME, devices=tuple(devices.values()), holders=tuple(holders), notes=notes)


def _devices(root: Path, nodes: Path) -> dict[str, GpuDevice]:
    """Return the GPUs by the driver's GPU number; a node of the machine's processors has number 0."""
    found: dict[str, GpuDevice] = {}
    for node in sorted(nodes.glob("[0-9]*"), key=lambda path: int(path.name)):
        number = _text(node / "gpu_id")
        if not number or number == "0":
            continue
        facts = _properties(node / "properties")
        device = _device(root, node, facts, number, len(found))
        if any(device.uuid == other.uuid for other in found.values()):  # partitions of one GPU share its identity
            device = GpuDevice(
                index=device.index,
                uuid=f"{device.uuid}/{number}",
                vendor="amd",
                model=device.model,
                memory_total_mib=_bank_mib(node),
                arch=device.arch,
            )
        found[number] = device
    return found


def _device(root: Path, node: Path, facts: dict[str, str], number: str, index: int) -> GpuDevice:
    card = root / f"sys/class/drm/renderD{facts.get('drm_render_minor', '')}/device"
    place = int(facts.get("location_id", "0"))
    pci = f"{int(facts.get('domain', '0')):04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7}"
    unique = int(facts.get("unique_id", "0"))
    total = _number(card / "mem_info_vram_total")
    used = _number(card / "mem_info_vram_used")
    name = _text(node / "name")
    return GpuDevice(
        index=index,
        uuid=f"GPU-{unique:016x}" if unique else f"{pci}#{number}" if not place else pci,
        vendor="amd",
        model=_text(card / "product_name") or f"AMD {_target(facts) or name}",
        memory_total_mib=_bank_mib(node) if total is None else total // MIB,
        memory_used_mib=None if used is None else used // MIB,
        pci=pci if place else "",
        arch=_target(facts),
    )


def _target(facts: dict[str, str]) -> str:
    """Return the compiler's name: 90402 is gfx942, with major, minor and stepping of two decimal digits each."""
    version = int(facts.get("gfx_target_version", "0"))
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}" if version else ""


def _holders(process: Path, devices: dict[str, GpuDevice]) -> list[GpuHolder] | None:
    """Return what a process holds of each GPU, or ``None`` if a file of it was refused."""
    queues: dict[str, int] = {}
    for queue in (process / "queues").glob("*/gpuid"):
        queues[_text(queue)] = queues.get(_text(queue), 0) + 1
    found = []
    for file in sorted(process.glob("vram_*")):
        number = file.name.removeprefix("vram_")
        used = _number(file)
        if used is None and file.exists():
            return None
        count = queues.get(number, 0)
        if not used and not count:
            continue  # every process has a file of every GPU
        gpu = devices[number].uuid if number in devices else f"kfd {number}"
        note = f"{count} queues"
        mib = None if used is None else used // MIB
        found.append(listed_holder(int(process.name), mib=mib, source=NAME, gpu=gpu, note=note))
    return found


def _bank_mib(node: Path) -> int | None:
    banks = [_properties(path) for path in node.glob("mem_banks/*/properties")]
    sizes = [int(bank.get("size_in_bytes", "0")) for bank in banks if bank.get("heap_type") in _VRAM_HEAPS]
    return sum(sizes) // MIB if sizes else None


def _properties(path: Path) -> dict[str, str]:
    """Return the lines ``name number`` of a properties file."""
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and pair[1].isdigit()}  # noqa: PLR2004 - a pair


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
