"""Folders that look like the parts of /sys, /proc and /dev where drivers show their GPUs.

Shapes from the drivers' sources: KFD's processes from kfd_process.c (``vram_<gpuid>`` in bytes, ``queues/<id>/gpuid``),
its nodes from kfd_topology.c, memory files from Documentation/gpu/amdgpu/driver-misc.rst; NVIDIA's ``information`` from
open-gpu-kernel-modules, kernel-open/nvidia/nv-procfs.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

GPU_ID = 51110
UNIQUE_ID = 0x5F2BA0D4F1C3E6A7


def write(path: Path, text: str) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def kfd_tree(
    root: Path, holders: Mapping[int, tuple[int, int]], *, used: int = 3 << 30, nodes: int = 1, unique: int = UNIQUE_ID
) -> Path:
    """Make a machine with MI300X nodes; ``holders`` are pid → (bytes of VRAM, queues), all on the first GPU."""
    kfd = root / "sys/class/kfd/kfd"
    (kfd / "proc").mkdir(parents=True)
    write(kfd / "topology/nodes/0/gpu_id", "0\n")
    write(kfd / "topology/nodes/0/name", "\n")
    write(kfd / "topology/nodes/0/properties", "cpu_cores_count 96\nsimd_count 0\nvendor_id 0\n")
    write(kfd / "topology/nodes/0/mem_banks/0/properties", "heap_type 0\nsize_in_bytes 1082331758592\nflags 0\n")
    for index in range(nodes):
        node, minor = kfd / f"topology/nodes/{index + 1}", 128 + index
        write(node / "gpu_id", f"{GPU_ID + index}\n")
        write(node / "name", "ip discovery\n")
        facts = {
            "cpu_cores_count": 0,
            "simd_count": 1216,
            "gfx_target_version": 90402,
            "vendor_id": 4098,
            "device_id": 29857,
            "location_id": 0xC100,
            "domain": 0,
            "drm_render_minor": minor,
            "unique_id": unique,
        }
        write(node / "properties", "".join(f"{name} {value}\n" for name, value in facts.items()))
        write(node / "mem_banks/0/properties", "heap_type 1\nsize_in_bytes 206141652992\nflags 0\nwidth 8192\n")
        card = root / "sys/devices/pci0000:c0/0000:c1:00.0"
        write(card / "mem_info_vram_total", "206141652992\n")
        write(card / "mem_info_vram_used", f"{used}\n")
        write(card / "vendor", "0x1002\n")
        render = root / f"sys/class/drm/renderD{minor}"
        render.mkdir(parents=True)
        (render / "device").symlink_to(card)
        write(root / f"dev/dri/renderD{minor}", "")
    write(root / "dev/kfd", "")
    for pid, (vram, queues) in holders.items():
        write(kfd / f"proc/{pid}/pasid", "32769\n")
        write(kfd / f"proc/{pid}/vram_{GPU_ID}", f"{vram}\n")
        write(kfd / f"proc/{pid}/sdma_{GPU_ID}", "0\n")
        (kfd / f"proc/{pid}/queues").mkdir()
        for queue in range(queues):
            write(kfd / f"proc/{pid}/queues/{queue}/gpuid", f"{GPU_ID}\n")
            write(kfd / f"proc/{pid}/queues/{queue}/size", "1048576\n")
            write(kfd / f"proc/{pid}/queues/{queue}/type", "2\n")
    return root


def nvidia_tree(root: Path) -> Path:
    """Make a machine with one H100, and the render node of a graphics chip of another vendor."""
    write(
        root / "proc/driver/nvidia/gpus/0000:0f:00.0/information",
        "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 58\nGPU UUID: \t GPU-5b1ea0f1-98ae-7f2f-4f0c-2b9a4f6e5d11\n"
        "Video BIOS: \t ??.??.??.??.??\nBus Type: \t PCIe\nDMA Size: \t 52 bits\nDMA Mask: \t 0xfffffffffffff\n"
        "Bus Location: \t 0000:0f:00.0\nDevice Minor: \t 0\nGPU Firmware: \t 580.159.04\nGPU Excluded:\t No\n",
    )
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "dri/renderD128", "null"):
        write(root / "dev" / name, "")
    write(root / "sys/class/drm/renderD128/device/vendor", "0x8086\n")
    return root
