"""The GPUs that tests may lease: looked up without CUDA or HIP in this process, or taken for granted by an option."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import pytest

from harness.leases import VISIBLE, of_one_vendor, visible
from harness.probes.gpu import GpuDevice
from harness.pytest_plugin.marks import Want

POOL: Final = pytest.StashKey[tuple[tuple[GpuDevice, ...], str]]()
SLACK: Final = 0.95
"""A GPU sold with 80 GiB shows a little less; that it falls short by this much is not held against it."""


def read_pool(config: pytest.Config) -> tuple[tuple[GpuDevice, ...], str]:
    """Return the GPUs of this machine that this process may see, once per session, and how they were found.

    Raises:
        pytest.UsageError: If ``--crashcart-gpus`` cannot be understood.
    """
    if POOL not in config.stash:
        said = config.option.crashcart_gpus
        if said is not None:
            config.stash[POOL] = parse_gpus(said), "--crashcart-gpus"
        else:
            from harness.probes.gpu_probes import look_at_gpus

            config.stash[POOL] = visible(look_at_gpus().devices, os.environ), "this machine"
    return config.stash[POOL]


def parse_gpus(text: str) -> tuple[GpuDevice, ...]:
    """Read ``none`` or ``VENDOR:GIB[:ARCH[:nvlink]],…``.

    Raises:
        pytest.UsageError: If it is neither.
    """
    if text == "none":
        return ()
    return tuple(_parse_one(index, one, text) for index, one in enumerate(text.split(",")))


def _parse_one(index: int, one: str, text: str) -> GpuDevice:
    vendor, _, rest = one.strip().partition(":")
    memory, _, rest = rest.partition(":")
    arch, _, link = rest.partition(":")
    if vendor not in VISIBLE or not memory.isdigit() or link not in {"", "nvlink"}:
        msg = f"--crashcart-gpus {text!r}: {one!r} is not VENDOR:GIB[:ARCH[:nvlink]], as in nvidia:80:sm_90,amd:192"
        raise pytest.UsageError(msg)
    return GpuDevice(
        index=index,
        uuid=f"stated-{index}",
        vendor=vendor,
        model="as stated",
        memory_total_mib=int(memory) << 10,
        arch=arch,
        nvlinks=int(link == "nvlink"),
    )


def matching(pool: Sequence[GpuDevice], want: Want) -> tuple[GpuDevice, ...]:
    """Return the GPUs that suit a wish, of one vendor: the one that has most of them where none is named."""
    suiting = [device for device in pool if _suits(device, want)]
    return of_one_vendor(suiting)


def _suits(device: GpuDevice, want: Want) -> bool:
    total = device.memory_total_mib
    return (
        (want.vendor is None or device.vendor == want.vendor)
        and (want.memory_gib is None or (total is not None and total >= want.memory_gib * 1024 * SLACK))
        and (want.arch is None or device.arch == want.arch)
        and (not want.nvlink or bool(device.nvlinks))
    )
