"""Stands in for nvidia-ml-py where there is no driver: the functions, structures and errors of its release 13.615.

``FAKE_GPU`` in the environment says how it behaves, as JSON: ``gpus`` (a list of uuid, name, bus, total, used and
processes as ``[kind, pid, bytes or null]``), ``init_error``, ``hang_s``, ``crash``, ``noise``, and ``lost`` (indices).
"""

from __future__ import annotations

import json
import os
import sys
import time
from types import SimpleNamespace
from typing import Any

nvmlMemory_v2 = 33554472  # noqa: N816 - the library's name
BEHAVIOUR: dict[str, Any] = json.loads(os.environ.get("FAKE_GPU", "{}"))


class NVMLError(Exception):
    """As the library's: prints as the driver's words."""


def nvmlInit() -> None:  # noqa: N802
    if BEHAVIOUR.get("noise"):
        os.write(1, b"a library that prints to stdout\n")
    if BEHAVIOUR.get("crash"):
        os.kill(os.getpid(), 11)
    time.sleep(BEHAVIOUR.get("hang_s", 0))
    if "init_error" in BEHAVIOUR:
        raise NVMLError(BEHAVIOUR["init_error"])


def nvmlShutdown() -> None:  # noqa: N802
    sys.stderr.write("shut down\n")


def nvmlDeviceGetCount() -> int:  # noqa: N802
    return len(BEHAVIOUR["gpus"])


def nvmlDeviceGetHandleByIndex(index: int) -> dict[str, Any]:  # noqa: N802
    if index in BEHAVIOUR.get("lost", ()):
        raise NVMLError("GPU is lost")
    gpu: dict[str, Any] = BEHAVIOUR["gpus"][index]
    return gpu


def nvmlDeviceGetUUID(handle: dict[str, Any]) -> str:  # noqa: N802
    return str(handle["uuid"])


def nvmlDeviceGetName(handle: dict[str, Any]) -> bytes:  # noqa: N802
    """Bytes, as releases before 11.5 gave them."""
    return str(handle["name"]).encode()


def nvmlDeviceGetPciInfo(handle: dict[str, Any]) -> SimpleNamespace:  # noqa: N802
    return SimpleNamespace(busId=handle["bus"])


def nvmlDeviceGetMemoryInfo(handle: dict[str, Any], version: int | None = None) -> SimpleNamespace:  # noqa: N802
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
