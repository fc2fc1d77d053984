"""A run on a machine with GPUs that are only pretended: leases, variables and quarantine reach the attempts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness import gpu_pool, run
from harness.outcome import VerdictName
from harness.probes.gpu import GpuDevice, GpuSurvey
from harness.probes.machine import read_environment
from harness.record import read_run
from harness.spec import Environment
from tests.toy import SCENARIO


def a_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *used_mib: int) -> None:
    """Pretend GPUs with so much memory in use that nobody accounts for."""
    devices = tuple(
        GpuDevice(index=index, uuid=f"GPU-{index}", vendor="nvidia", model="H200", memory_used_mib=mib)
        for index, mib in enumerate(used_mib)
    )
    seen = GpuSurvey(devices=devices, holders=(), unavailable=(), notes=())

    def environment(without: frozenset[str] = frozenset()) -> Environment:
        return replace(read_environment(without), gpus=("H200",) * len(devices))

    monkeypatch.setattr(run, "read_environment", environment)
    monkeypatch.setattr(run, "look_at_gpus", lambda _: seen)
    monkeypatch.setattr(gpu_pool, "RETURN_S", 0.5)
    monkeypatch.setenv("CRASHCART_LEASES", str(tmp_path / "leases"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_wedged_gpu_is_noted_and_the_run_goes_on_with_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One GPU of two is wedged: both cells run, on the other; the record says why."""
    a_machine(monkeypatch, tmp_path, 1500, 0)
    selection = {"behaviour": ("healthy", "silent")}
    request = run.Request(scenarios=(SCENARIO,), selection=selection, out=tmp_path / "run")
    rows = run.run(request).rows
    assert [row.verdict for row in rows] == [VerdictName.ABSENT, VerdictName.OTHER_FAILURE]
    notes = [note for some in read_run(tmp_path / "run").attempts.values() for one in some for note in one.notes]
    assert len([note for note in notes if note.startswith("quarantined: GPU 0: 1500 MiB")]) == 1


def test_without_a_clean_gpu_there_is_no_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The only GPU is wedged: nothing is started on it, and the row says what is the matter."""
    a_machine(monkeypatch, tmp_path, 1500)
    request = run.Request(scenarios=(SCENARIO,), selection={"behaviour": ("healthy",)}, out=tmp_path / "run")
    (row,) = run.run(request).rows
    assert row.verdict is VerdictName.NO_VERDICT
    assert "1 GPU is needed, and these are quarantined: GPU 0: 1500 MiB" in row.reasons[0]
    assert row.processes["seen"] == 0
