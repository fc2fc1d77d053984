"""Which tools take the stacks of a process, and in which order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.probes import stack_tools
from harness.probes.stack_tools import DEBUGGERS, find, tools_for


def test_debuggers_of_the_gpu_vendors_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stop the GPU, too; each can be taken away, and all print what the parser of gdb reads."""
    monkeypatch.setattr(stack_tools, "find", lambda name: f"/bin/{name}")
    names = [tool.name for tool in tools_for(os.getpid())]
    assert names[-3:] == list(DEBUGGERS)
    left = tools_for(os.getpid(), frozenset({"cuda_gdb", "rocgdb"}))
    assert left[-1].name == "gdb"
    assert {tool.suffix for tool in tools_for(os.getpid())[-3:]} == {"gdb.txt"}


def test_a_tool_beside_cuda_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """NVIDIA's installer does not tell the PATH."""
    (tmp_path / "cuda-gdb").write_text("#!/bin/sh\n")
    (tmp_path / "cuda-gdb").chmod(0o755)
    monkeypatch.setattr(stack_tools, "BESIDE_CUDA", tmp_path)
    assert find("cuda-gdb") == str(tmp_path / "cuda-gdb")
    assert find("no-such-gdb") is None
