"""Which GPUs suit a test, which the session may see, and how leases keep users apart."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.leases import environment_for, holders, lease, visible
from harness.probes.gpu import GpuDevice
from harness.pytest_plugin.hardware import matching, parse_gpus
from harness.pytest_plugin.marks import Want

POOL = parse_gpus("nvidia:80:sm_90:nvlink,nvidia:24:sm_89,amd:192:gfx942,nvidia:80:sm_90:nvlink")


def numbers(gpus: tuple[GpuDevice, ...]) -> list[int]:
    return [gpu.index for gpu in gpus]


@pytest.mark.parametrize(
    ("want", "found"),
    [
        (Want(), [0, 1, 3]),
        (Want(vendor="amd"), [2]),
        (Want(memory_gib=40), [0, 3]),
        (Want(memory_gib=81), [0, 3]),
        (Want(memory_gib=100), [2]),
        (Want(arch="sm_89"), [1]),
        (Want(nvlink=True), [0, 3]),
        (Want(vendor="nvidia", arch="gfx942"), []),
    ],
)
def test_what_suits(want: Want, found: list[int]) -> None:
    """Never two vendors in one lease; a GPU that shows a little less than it is sold with suits."""
    assert numbers(matching(POOL, want)) == found


@pytest.mark.parametrize(
    ("environ", "seen"),
    [
        ({}, [0, 1, 2, 3]),
        ({"CUDA_VISIBLE_DEVICES": "3,0"}, [0, 2, 3]),
        ({"CUDA_VISIBLE_DEVICES": ""}, [2]),
        ({"CUDA_VISIBLE_DEVICES": "stated-1"}, [1, 2]),
        ({"HIP_VISIBLE_DEVICES": "7"}, [0, 1, 3]),
    ],
)
def test_the_session_leases_only_what_it_may_see(environ: dict[str, str], seen: list[int]) -> None:
    assert numbers(visible(POOL, environ)) == seen


def test_a_gpu_of_an_unknown_vendor_is_not_leased() -> None:
    assert visible([GpuDevice(index=0, uuid="x", vendor="", model="")], {}) == ()


def test_the_variables_show_exactly_the_leased_ones() -> None:
    assert environment_for(POOL[:2]) == {"CUDA_VISIBLE_DEVICES": "0,1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert environment_for(POOL[2:3]) == {"HIP_VISIBLE_DEVICES": "2"}


@pytest.mark.parametrize("text", ["intel:8", "nvidia", "nvidia:x", "nvidia:8:sm_90:pcie", ""])
def test_a_list_that_cannot_be_understood_is_refused(text: str) -> None:
    with pytest.raises(pytest.UsageError, match="is not VENDOR:GIB"):
        parse_gpus(text)


def test_who_needs_two_is_not_overtaken_by_those_who_need_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second GPU comes free last; a later wish for one has to wait behind the earlier wish for two."""
    monkeypatch.setenv("CRASHCART_LEASES", str(tmp_path))
    order: list[str] = []
    first = lease(POOL[:2], 2, "first")
    first.__enter__()

    def want(count: int, name: str) -> None:
        with lease(POOL[:2], count, name):
            order.append(name)
            time.sleep(0.05)

    threads = [threading.Thread(target=want, args=pair) for pair in ((2, "two"), (1, "one"))]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    assert sorted(holders().values()) == [f"pid {os.getpid()} first"] * 2
    first.__exit__(None, None, None)
    for thread in threads:
        thread.join()
    assert order == ["two", "one"]
    assert holders() == {}


def test_a_folder_that_cannot_be_used_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CRASHCART_LEASES", str(tmp_path / "file" / "folder"))
    with pytest.raises(UsageError, match="GPU leases"), lease(POOL, 1, "me"):
        pass
