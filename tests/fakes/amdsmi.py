"""Stands in for ROCm's Python package amdsmi: names, fields and units as ROCm's documentation of the API has them.

``FAKE_GPU`` says how it behaves (`tests.fakes.behaviour`); ``old`` makes the list of processes one of handles.
"""

from __future__ import annotations

from typing import Any

from tests.fakes.behaviour import now, record_calls, trouble

if "import_error" in now():
    raise OSError(now()["import_error"])


class AmdSmiException(Exception):  # noqa: N818 - the library's name
    """As the library's."""


def amdsmi_init() -> None:
    trouble()
    if "init_error" in now():
        raise AmdSmiException(now()["init_error"])


def amdsmi_shut_down() -> None:
    """Nothing to be done."""


def amdsmi_get_processor_handles() -> list[int]:
    return list(range(len(now()["gpus"])))


def _gpu(handle: int) -> dict[str, Any]:
    if handle in now().get("lost", ()):
        raise AmdSmiException("AMDSMI_STATUS_NO_DATA")
    gpu: dict[str, Any] = now()["gpus"][handle]
    return gpu


def amdsmi_get_gpu_device_uuid(handle: int) -> str:
    return str(_gpu(handle)["uuid"])


def amdsmi_get_gpu_device_bdf(handle: int) -> str:
    return str(_gpu(handle)["bus"])


def amdsmi_get_gpu_asic_info(handle: int) -> dict[str, Any]:
    return {"market_name": _gpu(handle)["name"], "vendor_id": "0x1002", "asic_serial": "0x0"}


def amdsmi_get_gpu_vram_usage(handle: int) -> dict[str, int]:
    trouble()
    gpu = _gpu(handle)
    return {"vram_total": gpu["total"] >> 20, "vram_used": gpu["used"] >> 20}


def _facts(process: list[Any]) -> dict[str, Any]:
    _, pid, used = process
    memory = {"gtt_mem": 4096, "cpu_mem": 0, "vram_mem": "N/A" if used is None else used}
    return {"name": "N/A", "pid": pid, "mem": used or 0, "engine_usage": {"gfx": 0, "enc": 0}, "memory_usage": memory}


def amdsmi_get_gpu_process_list(handle: int) -> list[Any]:
    processes = _gpu(handle)["processes"]
    return list(range(len(processes))) if now().get("old") else [_facts(one) for one in processes]


def amdsmi_get_gpu_process_info(handle: int, process: int) -> dict[str, Any]:
    return _facts(_gpu(handle)["processes"][process])


record_calls(globals(), "amdsmi_")
