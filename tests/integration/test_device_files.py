"""Holders found by open descriptors: real processes that hold files of a made-up /dev."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.probes import proc
from harness.probes.device_files import DeviceFilesProbe, listed_holder, live_threads, open_devices
from harness.probes.gpu import ENDED, GpuReading, explain
from tests.gpu_trees import kfd_tree, nvidia_tree

PROGRAM = Path(__file__).resolve().parents[1] / "programs" / "gpu_holder.py"


@contextmanager
def holding(file: Path, how: str = "plain") -> Iterator[int]:
    """Run the program until it holds the file; yield its pid."""
    with subprocess.Popen([sys.executable, str(PROGRAM), str(file), how], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"open\n"
            yield process.pid
        finally:
            process.kill()


def read(root: Path) -> GpuReading:
    answer = DeviceFilesProbe(root=root).read()
    assert isinstance(answer, GpuReading)
    return answer


def test_a_process_with_a_device_open_is_found(tmp_path: Path) -> None:
    """By its file the GPU is known, model and UUID included; the process is named with its identity."""
    root = nvidia_tree(tmp_path)
    with holding(root / "dev/nvidia0") as pid:
        answer = read(root)
        (holder,), (device,) = answer.holders, answer.devices
        stat = proc.read_stat(pid)
        assert stat is not None
        assert (holder.key, holder.gpu, holder.mib) == (stat.key, device.uuid, None)
        assert "gpu_holder.py" in holder.name
        assert device.model == "NVIDIA H100 80GB HBM3"
        (finding,) = explain(answer.devices, answer.holders, ledger={stat.key})
        assert finding.ours
    assert read(root).holders == ()


def test_only_gpu_files_count(tmp_path: Path) -> None:
    """Neither another file of /dev nor the render node of another vendor is a GPU of ours; common devices name none."""
    root = nvidia_tree(tmp_path)
    with holding(root / "dev/null"), holding(root / "dev/dri/renderD128"), holding(root / "dev/nvidiactl") as common:
        assert [(one.pid, one.gpu) for one in read(root).holders] == [(common, "")]


def test_amd_holders_are_found_by_the_render_node(tmp_path: Path) -> None:
    """/dev/kfd says that a process computes, its render node on which GPU."""
    root = kfd_tree(tmp_path, {})
    with holding(root / "dev/kfd") as computing, holding(root / "dev/dri/renderD128") as on_gpu:
        answer = read(root)
        assert {(one.pid, one.gpu) for one in answer.holders} == {(computing, ""), (on_gpu, "0000:c1:00.0")}
        assert {one.vendor for one in answer.devices} == {"amd"}


def test_a_zombie_leader_with_a_live_thread_is_found(tmp_path: Path) -> None:
    """The leader has ended, its own descriptors are gone; the thread that lives on is named with state and place."""
    root = nvidia_tree(tmp_path)
    with holding(root / "dev/nvidia0", "zombie") as pid:
        until = time.monotonic() + 10
        while (stat := proc.read_stat(pid)) and stat.state != "Z" and time.monotonic() < until:
            time.sleep(0.01)
        (holder,) = read(root).holders
        assert holder.pid == pid
        (thread,) = holder.threads
        assert thread.state == "S"
        if os.geteuid() == 0:
            assert "nanosleep" in thread.wchan or "hrtimer" in thread.wchan
        assert explain((), [holder])[0].kind.value == "held_by_zombie"


def test_processes_of_others_are_counted_not_guessed(tmp_path: Path) -> None:
    """An ordinary user may not look into root's processes: unknown is not the same as none."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    root = nvidia_tree(tmp_path)
    script = "import os; from harness.probes import device_files; os.setuid(65534); print(device_files.open_devices(1))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROGRAM.parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"
    assert open_devices(os.getpid(), root) == set()


def test_a_pid_that_the_driver_lists_and_that_is_gone(tmp_path: Path) -> None:
    """In the initial pid namespace it has ended; its memory may still be on the way back."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    gone = listed_holder(process.pid, mib=1518, source="nvml", gpu="GPU-1")
    initial = Path("/proc/self/ns/pid").stat().st_ino == 0xEFFFFFFC
    assert gone.note == (ENDED if initial else "not in this pid namespace")
    assert gone.start == 0
    here = listed_holder(os.getpid(), mib=1, source="nvml", gpu="GPU-1")
    assert here.note.startswith("not in this pid namespace") is not initial
    assert not list(tmp_path.iterdir())


def test_threads_of_a_live_process_are_its_own_affair() -> None:
    """A process without other threads has none."""
    process = subprocess.Popen(["/bin/sleep", "60"])
    try:
        assert live_threads(process.pid) == ()
    finally:
        process.kill()
        process.wait()
