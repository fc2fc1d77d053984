"""GPU samples over time: taken only while a tree holds a GPU, told as events, and what hang detection makes of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.attempt import Attempt, Process
from harness.events import Event, GpuHeld, GpuSampled, GpuUse, HarnessNote, ProcessKey
from harness.judge import gpu_summary
from harness.roles import role
from harness.supervise import gpu_watch
from harness.supervise.gpu_watch import GpuWatch
from harness.supervise.hang import HangDetector
from harness.supervise.ledger import Entry, Ledger

FAKES = Path(__file__).parents[1] / "fakes"
GPU: dict[str, Any] = {"uuid": "GPU-1", "name": "H100", "bus": "00000000:01:00.0", "total": 80 << 30, "used": 3 << 30}
ME, OTHER = ProcessKey(4242, 7), ProcessKey(4343, 8)


class OneProcess(Ledger):
    """A ledger in which something runs; which process it is does not matter here."""

    def running(self) -> list[Entry]:
        return [cast("Entry", SimpleNamespace(key=ME))]


def sampled(
    root: Path, monkeypatch: pytest.MonkeyPatch, open_files: set[str], **gpu: object
) -> tuple[GpuWatch, list[Event]]:
    """Return a watch after its first sample, if it takes one, and what it recorded."""
    (root / "dev").mkdir()
    (root / "dev" / "nvidiactl").touch()
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.setenv("FAKE_GPU", json.dumps({"gpus": [GPU | {"processes": [["compute", 4242, 1 << 30]]} | gpu]}))
    monkeypatch.setattr(gpu_watch, "open_devices", lambda _: open_files)
    told: list[Event] = []
    watch = GpuWatch(OneProcess(told.append), told.append, set(), root=root)
    until = time.monotonic() + 10
    while not told and time.monotonic() < until:
        watch.tick(time.monotonic())
        if not watch._asked and not open_files:
            break
        time.sleep(0.05)
    watch.close()
    return watch, told


def test_a_sample_tells_memory_utilisation_and_holders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, (event,) = sampled(tmp_path, monkeypatch, {"nvidia0"}, utilisation=100)
    assert isinstance(event, GpuSampled)
    assert event.gpus == (GpuUse(index=0, used_mib=3072, utilisation_pct=100),)
    assert [(one.pid, one.gpu, one.mib) for one in event.holders] == [(4242, 0, 1024)]
    assert watch.busy(frozenset({ME}), time.monotonic()) == "GPU 0 is 100% busy"
    assert watch.busy(frozenset({OTHER}), time.monotonic()) == "", "another process holds it"
    assert watch.busy(frozenset({ME}), time.monotonic() + 60) == "", "an old sample says nothing about now"


@pytest.mark.parametrize("gpu", [{"utilisation": 60}, {}], ids=["half idle", "not told"])
def test_a_gpu_that_is_not_known_to_be_busy_is_not_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: dict[str, int]
) -> None:
    watch, _ = sampled(tmp_path, monkeypatch, {"nvidia0"}, **gpu)
    assert watch.busy(frozenset({ME}), time.monotonic()) == ""


def test_a_tree_without_a_gpu_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No helper is started while no process of the tree has a device open, and none where there is no device."""
    watch, told = sampled(tmp_path, monkeypatch, set())
    assert (told, watch._asked) == ([], False)
    bare = GpuWatch(OneProcess(told.append), told.append, set(), root=tmp_path / "none")
    bare.tick(time.monotonic())
    assert not bare._asked


def test_the_samples_are_taken_by_one_process_that_is_gone_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone when `close` comes back: whoever looks for holders of a GPU then does not find it."""
    monkeypatch.setattr(gpu_watch, "EVERY_S", 0.0)
    watch, told, helpers = watching(tmp_path, monkeypatch)
    ticks(watch, lambda: len(told) == 3)
    assert [type(event) for event in told] == [GpuSampled] * 3
    (pid,) = helpers
    assert Path(f"/proc/{pid}").exists()
    watch.close()
    assert not Path(f"/proc/{pid}").exists()


def test_a_library_that_gives_nothing_is_given_up_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_watch, "EVERY_S", 0.0)
    watch, told, helpers = watching(tmp_path, monkeypatch, init_error="Driver Not Loaded")
    ticks(watch, lambda: bool(told))
    watch.tick(time.monotonic())
    watch.close()
    notes = [event.note for event in told if isinstance(event, HarnessNote)]
    assert notes == ["GPUs are not sampled any more: NVML does not start: Driver Not Loaded"]
    assert len(told) == 1
    assert len(helpers) == 3


def watching(
    root: Path, monkeypatch: pytest.MonkeyPatch, **behaviour: object
) -> tuple[GpuWatch, list[Event], set[int]]:
    """Return a watch of a tree that holds a GPU, what it tells, and whom it starts."""
    (root / "dev").mkdir()
    (root / "dev" / "nvidiactl").touch()
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.setenv("FAKE_GPU", json.dumps({"gpus": [GPU | {"processes": []}], **behaviour}))
    monkeypatch.setattr(gpu_watch, "open_devices", lambda _: {"nvidia0"})
    told: list[Event] = []
    helpers: set[int] = set()
    return GpuWatch(OneProcess(told.append), told.append, helpers, root=root), told, helpers


def ticks(watch: GpuWatch, enough: Callable[[], bool]) -> None:
    """Tick as the supervisor does, until there is enough."""
    until = time.monotonic() + 20
    while not enough() and time.monotonic() < until:
        watch.tick(time.monotonic())
        time.sleep(0.01)


def test_the_row_has_the_most_that_the_tree_held() -> None:
    """Summed over GPUs per process and over processes per sample; foreign processes are left out."""
    process = Process(key=ME, ppid=1, parent=None, names=("VLLM::EngineCore",), claimed_by="root", born_ns=0)
    samples = [[(ME, 0, 1000), (ME, 1, 500), (OTHER, 0, 9000)], [(ME, 0, 1200)]]
    attempt = Attempt(
        cell="c", attempt=1, params={}, started_ns=0, end="exited", processes=(process,),
        gpu_samples=tuple(
            GpuSampled(gpus=(), holders=tuple(GpuHeld(pid=k.pid, start=k.start, gpu=g, mib=m) for k, g, m in sample))
            for sample in samples
        ),
    )  # fmt: skip
    assert gpu_summary(attempt) == {
        "held_mib": 1500,
        "holders": [{"pid": 4242, "name": "VLLM::EngineCore", "role": "engine_core", "mib": 1500}],
    }
    assert gpu_summary(None) == {"held_mib": None, "holders": []}


def suspicions(busy: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return what a declared hang of a process is called, with what is said of the GPUs that it holds."""
    detector = HangDetector(Ledger(lambda _: None), lambda _: None, lambda *_: busy)
    detector._say_declared("livelock", (ME,), ["spins"], frozenset({ME}), 0.0)
    detector.close()
    return [(event.suspicion, event.reasons) for event, _ in detector._new]


def test_a_spin_over_a_busy_gpu_is_a_class_of_its_own() -> None:
    """A collective with a missing rank: the kernel waits on the GPU, and the process for the kernel."""
    assert suspicions("GPU 0 is 100% busy") == [("gpu_busy", ("spins", "GPU 0 is 100% busy"))]
    assert suspicions("") == [("livelock", ("spins",))]


class Computing:
    """Everybody computes, and nobody reads or writes."""

    def cpu_share(self, _: ProcessKey) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("title", "compiles"),
    [
        ("/usr/local/cuda/bin/nvcc -c x.cu", True),
        ("cicc --c++17 x.ii", True),
        ("/x/triton/backends/nvidia/bin/ptxas-blackwell -v a.ptx", True),
        ("cudafe++ --c++17 x.ii", True),
        ("g++ -O2 x.cc", True),
        ("/opt/rocm/llvm/bin/clang-19 -c x.hip", True),
        ("python ascii.py", False),
        ("assembler", False),
        ("VLLM::EngineCore", False),
    ],
)
def test_a_compiler_at_work_is_progress(title: str, compiles: bool) -> None:
    """Two minutes of kernels built at start-up are no hang, whoever waits for them."""
    assert (role(title) == "compiler") is compiles
    detector = HangDetector(Ledger(lambda _: None), lambda _: None)
    detector._activity = Computing()  # type: ignore[assignment]
    assert detector._compiling({ME: title}) is compiles
    detector.close()
