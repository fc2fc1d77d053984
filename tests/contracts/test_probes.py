"""What every GPU probe promises: a name, values or a sentence that says why there are none, no exception, soon.

Each probe is asked on this machine as it is, on a machine that looks as if it had GPUs, and with its source broken in
every way that a library or a file system can be. Only the file system below a root and the vendors' libraries are
stood in for.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.probes.amdsmi import AmdSmiProbe
from harness.probes.device_files import DeviceFilesProbe
from harness.probes.gpu import GpuProbe, GpuReading, Unavailable
from harness.probes.gpu_probes import gpu_probes, look_at_gpus
from harness.probes.isolated import TIMEOUT_S
from harness.probes.kfd import KfdProbe
from harness.probes.nvml import NvmlProbe
from harness.probes.xid import read_xids
from tests.gpu_trees import GPU_ID, kfd_tree, nvidia_tree

FAKES = Path(__file__).resolve().parents[1] / "fakes"
GPUS_HERE = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/sys/class/kfd").exists()
SOON_S = 3.0
STUCK_S = 1.0
GPU = {
    "uuid": "GPU-5b1ea0f1-98ae-7f2f-4f0c-2b9a4f6e5d11",
    "name": "A GPU",
    "bus": "00000000:0F:00.0",
    "total": 81559 << 20,
    "used": 1600 << 20,
    "processes": [["compute", 1, 1518 << 20]],
}


def environment(behaviour: dict[str, Any]) -> dict[str, str]:
    """Return an environment in which the vendors' libraries are the stand-ins."""
    return {**os.environ, "PYTHONPATH": str(FAKES), "FAKE_GPU": json.dumps(behaviour)}


def library(probe: type[NvmlProbe | AmdSmiProbe], **behaviour: Any) -> Callable[[Path], GpuProbe]:  # noqa: ANN401
    """Return a maker of a library's probe over a stand-in that behaves so; one that hangs gets a short limit."""
    limit = STUCK_S if "hang_s" in behaviour else TIMEOUT_S
    return lambda _: probe(timeout_s=limit, env=environment({"gpus": [GPU], **behaviour}))


def without_package(probe: type[NvmlProbe | AmdSmiProbe], root: Path) -> GpuProbe:
    """Return a library's probe on a machine without the Python package."""
    for name in ("pynvml", "amdsmi"):
        (root / f"{name}.py").write_text("raise ImportError('planned')")
    return probe(env={**os.environ, "PYTHONPATH": str(root)})


def dead_sysfs(root: Path) -> GpuProbe:
    """Return a KFD probe whose files hold no numbers."""
    tree = kfd_tree(root, {1: (1, 1)})
    for path in [*tree.rglob("properties"), *tree.rglob("vram_*"), *tree.rglob("mem_info*")]:
        path.write_text("\0not a number")
    return KfdProbe(root=tree)


@dataclass(frozen=True)
class Case:
    """A probe, its source, and the words that its answer must hold; empty for values."""

    make: Callable[[Path], GpuProbe]
    why: str = ""


CASES = {
    "nvml-works": Case(library(NvmlProbe)),
    "nvml-prints": Case(library(NvmlProbe, noise=1)),
    "nvml-one-lost": Case(library(NvmlProbe, gpus=[GPU, GPU], lost=[1])),
    "nvml-no-package": Case(lambda root: without_package(NvmlProbe, root), "not installed"),
    "nvml-no-driver": Case(library(NvmlProbe, init_error="Driver Not Loaded"), "Driver Not Loaded"),
    "nvml-no-gpu": Case(library(NvmlProbe, gpus=[]), "no GPU"),
    "nvml-stuck": Case(library(NvmlProbe, hang_s=60), "did not answer within 1 s"),
    "nvml-crashes": Case(library(NvmlProbe, crash=True), "ended with -11"),
    "amdsmi-works": Case(library(AmdSmiProbe)),
    "amdsmi-old": Case(library(AmdSmiProbe, old=True)),
    "amdsmi-one-lost": Case(library(AmdSmiProbe, gpus=[GPU, GPU], lost=[1])),
    "amdsmi-no-package": Case(lambda root: without_package(AmdSmiProbe, root), "not installed"),
    "amdsmi-no-library": Case(library(AmdSmiProbe, import_error="libamd_smi.so: not found"), "libamd_smi.so"),
    "amdsmi-no-driver": Case(library(AmdSmiProbe, init_error="AMDSMI_STATUS_NOT_INIT"), "AMDSMI_STATUS_NOT_INIT"),
    "amdsmi-stuck": Case(library(AmdSmiProbe, hang_s=60), "did not answer within 1 s"),
    "amdsmi-crashes": Case(library(AmdSmiProbe, crash=True), "ended with -11"),
    "kfd-works": Case(lambda root: KfdProbe(root=kfd_tree(root, {1: (1 << 30, 2)}))),
    "kfd-unreadable": Case(dead_sysfs),
    "kfd-absent": Case(lambda root: KfdProbe(root=root), "not loaded"),
    "kfd-no-gpu": Case(lambda root: KfdProbe(root=kfd_tree(root, {}, nodes=0)), "no GPU"),
    "files-nvidia": Case(lambda root: DeviceFilesProbe(root=nvidia_tree(root))),
    "files-amd": Case(lambda root: DeviceFilesProbe(root=kfd_tree(root, {}))),
    "files-no-time": Case(lambda root: DeviceFilesProbe(root=nvidia_tree(root), limit_s=0.0)),
    "files-absent": Case(lambda root: DeviceFilesProbe(root=root), "there is no /dev/nvidia*"),
}


def check(answer: GpuReading | Unavailable, probe: GpuProbe) -> None:
    """Hold an answer against the contract."""
    assert answer.probe == probe.name
    if isinstance(answer, Unavailable):
        assert_sentence(answer.reason)
        return
    assert answer.devices
    for device in answer.devices:
        assert device.uuid
        assert device.index >= 0
    uuids = {device.uuid for device in answer.devices}
    for holder in answer.holders:
        assert holder.source == probe.name
        assert holder.pid > 0
        assert holder.gpu in uuids | {""}
        assert holder.mib is None or holder.mib >= 0


def assert_sentence(reason: str) -> None:
    """A reason is one line of several words that does not begin or end as a fragment would."""
    assert len(reason.split()) >= 3, reason
    assert "\n" not in reason
    assert len(reason) < 400
    assert not reason.endswith((".", ":", ","))


@pytest.mark.parametrize("name", CASES)
def test_each_probe_gives_values_or_a_reason(name: str, tmp_path: Path) -> None:
    """Never an exception, never longer than its limit and a little; the reason names what is missing."""
    case = CASES[name]
    probe = case.make(tmp_path)
    started = time.monotonic()
    answer = probe.read()
    assert time.monotonic() - started < (STUCK_S if "stuck" in name else TIMEOUT_S) + SOON_S
    check(answer, probe)
    if case.why:
        assert isinstance(answer, Unavailable)
        assert case.why in answer.reason
    else:
        assert isinstance(answer, GpuReading), answer


@pytest.mark.parametrize("probe", gpu_probes(), ids=lambda probe: probe.name)
def test_each_probe_answers_on_this_machine(probe: GpuProbe) -> None:
    answer = probe.read()
    check(answer, probe)
    if not GPUS_HERE:
        assert isinstance(answer, Unavailable)


def test_all_probes_are_in_the_list() -> None:
    assert [probe.name for probe in gpu_probes()] == ["nvml", "amdsmi", "kfd", "device_files"]
    assert {name.partition("-")[0] for name in CASES} == {"nvml", "amdsmi", "kfd", "files"}


def test_what_is_taken_away_says_so() -> None:
    """`--without` reaches each probe by its name, and all by `gpu`."""
    for names in (frozenset({"nvml", "amdsmi", "kfd", "device_files"}), frozenset({"gpu"})):
        found = look_at_gpus(names)
        assert {one.reason for one in found.unavailable} == {"taken away by --without"}
        assert not found.devices


def test_figures_and_names_come_through(tmp_path: Path) -> None:
    """One GPU with 1,600 MiB in use, 1,518 of them by pid 1, whichever library tells it."""
    for make in (library(NvmlProbe), library(AmdSmiProbe), library(AmdSmiProbe, old=True)):
        answer = make(tmp_path).read()
        assert isinstance(answer, GpuReading)
        (device,), (holder,) = answer.devices, answer.holders
        assert (device.pci, device.memory_total_mib, device.memory_used_mib) == ("0000:0f:00.0", 81559, 1600)
        assert (device.model, holder.pid, holder.mib, holder.gpu) == ("A GPU", 1, 1518, device.uuid)


def test_a_lost_gpu_does_not_hide_the_others(tmp_path: Path) -> None:
    for make, words in (
        (library(NvmlProbe, gpus=[GPU, GPU], lost=[0]), "GPU 0 does not answer: GPU is lost"),
        (library(AmdSmiProbe, gpus=[GPU, GPU], lost=[0]), "GPU 0 does not answer in full: AMDSMI_STATUS_NO_DATA"),
    ):
        answer = make(tmp_path).read()
        assert isinstance(answer, GpuReading)
        assert [device.index for device in answer.devices] == [1]
        assert words in answer.notes


def test_kfd_gives_processes_with_their_vram(tmp_path: Path) -> None:
    """A process with neither memory nor queues on a GPU does not hold it, although its file is there."""
    me = os.getpid()
    other = 2 if me == 1 else 1  # in a container, the tests may be the first process
    answer = KfdProbe(root=kfd_tree(tmp_path, {me: (5 << 30, 2), other: (0, 0)}, used=6 << 30)).read()
    assert isinstance(answer, GpuReading)
    (device,), (holder,) = answer.devices, answer.holders
    assert (device.uuid, device.pci) == ("GPU-5f2ba0d4f1c3e6a7", "0000:c1:00.0")
    assert (device.model, device.memory_total_mib, device.memory_used_mib) == ("AMD gfx942", 196592, 6144)
    assert (holder.pid, holder.mib, holder.gpu) == (me, 5120, device.uuid)


def test_partitions_of_one_gpu_stay_apart(tmp_path: Path) -> None:
    """Several nodes with one identity (an MI300X in CPX mode) are several devices, and none takes another's place."""
    answer = KfdProbe(root=kfd_tree(tmp_path, {}, nodes=2)).read()
    assert isinstance(answer, GpuReading)
    assert [device.uuid for device in answer.devices] == [
        "GPU-5f2ba0d4f1c3e6a7",
        f"GPU-5f2ba0d4f1c3e6a7/{GPU_ID + 1}",
    ]


def test_a_stuck_library_leaves_no_process(tmp_path: Path) -> None:
    """The process that asked is told to whoever watches, polled without waiting, and gone afterwards."""
    helpers: set[int] = set()
    env = environment({"gpus": [], "hang_s": 60})
    reading = NvmlProbe(timeout_s=0.6, env=env, helpers=helpers).start()
    (pid,) = helpers
    longest, answer = 0.0, None
    while answer is None:
        before = time.monotonic()
        answer = reading.poll()
        longest = max(longest, time.monotonic() - before) if answer is None else longest
    assert longest < 0.1
    assert isinstance(answer, Unavailable)
    assert not Path(f"/proc/{pid}").exists()
    assert reading.poll() is answer
    assert not list(tmp_path.iterdir())


def test_a_kernel_log_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    answer = read_xids(tmp_path / "kmsg")
    assert isinstance(answer, Unavailable)
    assert_sentence(answer.reason)


def test_the_kernel_log_of_this_machine() -> None:
    """Comes back although nobody writes to it."""
    started = time.monotonic()
    answer = read_xids()
    assert time.monotonic() - started < SOON_S
    if isinstance(answer, Unavailable):
        assert_sentence(answer.reason)
    elif not GPUS_HERE:
        assert answer == ()
