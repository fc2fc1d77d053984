"""The gate before an attempt waits for GPU memory that is on its way back, and names what does not come back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness import run
from harness.probes.gpu import GpuDevice, GpuSurvey


def survey(used_mib: int) -> GpuSurvey:
    """Return a GPU with memory in use that no process accounts for."""
    device = GpuDevice(index=0, uuid="GPU-1", vendor="nvidia", model="H100", memory_used_mib=used_mib)
    return GpuSurvey(devices=(device,), holders=(), unavailable=(), notes=())


def obstacles(monkeypatch: pytest.MonkeyPatch, *looks: int) -> tuple[str, ...]:
    """Return what stands in the way after these looks; the last one is seen for ever."""
    seen = iter([*looks[:-1]])
    monkeypatch.setattr(run, "look_at_gpus", lambda _: survey(next(seen, looks[-1])))
    monkeypatch.setattr(run, "GPU_RETURN_S", 1.2)
    session: Any = SimpleNamespace(
        environment=SimpleNamespace(gpus=("H100",)),
        request=SimpleNamespace(without=frozenset()),
        interrupts=SimpleNamespace(count=0),
    )
    return run._Session._gpu_obstacles(cast("run._Session", session))


def test_memory_that_comes_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert obstacles(monkeypatch, 1500, 700, 0) == ()


def test_memory_that_stays_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (reason,) = obstacles(monkeypatch, 1500)
    assert "1500 MiB" in reason
