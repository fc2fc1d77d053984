"""Stands in for nvidia-ml-py where there is no driver: the functions, structures and errors of its release 13.615.

``FAKE_GPU`` in the environment says how it behaves (`tests.fakes.behaviour`).
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from tests.fakes.behaviour import now, record_calls, trouble

nvmlMemory_v2 = 33554472  # noqa: N816 - the library's name


class NVMLError(Exception):
    """As the library's: prints as the driver's words."""


def nvmlInit() -> None:  # noqa: N802
    trouble()
    if "init_error" in now():
        raise NVMLError(now()["init_error"])


def nvmlShutdown() -> None:  # noqa: N802
    sys.stderr.write("shut down\n")


def nvmlDeviceGetCount() -> int:  # noqa: N802
    return len(now()["gpus"])


def nvmlDeviceGetHandleByIndex(index: int) -> dict[str, Any]:  # noqa: N802
    if index in now().get("lost", ()):
        raise NVMLError("GPU is lost")
    gpu: dict[str, Any] = now()["gpus"][index]
    return gpu


def nvmlDeviceGetUUID(handle: dict[str, Any]) -> str:  # noqa: N802
    return str(handle["uuid"])


def nvmlDeviceGetName(handle: dict[str, Any]) -> bytes:  # noqa: N802
    """Bytes, as releases before 11.5 gave them."""
    return str(handle["name"]).encode()


def nvmlDeviceGetPciInfo(handle: dict[str, Any]) -> SimpleNamespace:  # noqa: N802
    return SimpleNamespace(busId=handle["bus"])


def nvmlDeviceGetMemoryInfo(handle: dict[str, Any], version: int | None = None) -> SimpleNamespace:  # noqa: N802
    trouble()
    reserved = 0 if version == nvmlMemory_v2 else 600 << 20  # the first version counts the driver's reserve as used
    return SimpleNamespace(total=handle["total"], used=handle["used"] + reserved)


def nvmlDeviceGetUtilizationRates(handle: dict[str, Any]) -> SimpleNamespace:  # noqa: N802
    if "utilisation" not in handle:
        raise NVMLError("Not Supported")
    return SimpleNamespace(gpu=handle["utilisation"])


def _processes(handle: dict[str, Any], kind: str) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid, usedGpuMemory=used) for its, pid, used in handle["processes"] if its == kind]


def nvmlDeviceGetComputeRunningProcesses(handle: dict[str, Any]) -> list[SimpleNamespace]:  # noqa: N802
    return _processes(handle, "compute")


def nvmlDeviceGetGraphicsRunningProcesses(handle: dict[str, Any]) -> list[SimpleNamespace]:  # noqa: N802
    return _processes(handle, "graphics")


def nvmlDeviceGetMPSComputeRunningProcesses(handle: dict[str, Any]) -> list[SimpleNamespace]:  # noqa: N802
    if handle.get("no_mps"):
        raise NVMLError("Not Supported")
    return _processes(handle, "mps")


record_calls(globals(), "nvml")
