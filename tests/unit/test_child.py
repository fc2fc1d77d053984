"""What a supervised program says and is told."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness import child


def test_an_error_is_recorded_with_its_causes_outermost_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(child.PHASES, str(tmp_path / "phases"))
    inner = KeyError("inner")
    outer = RuntimeError("outer")
    outer.__cause__ = inner
    child.observe_error("failed", outer)
    (line,) = (tmp_path / "phases").read_text().splitlines()
    said = json.loads(line)["data"]["error"]
    assert [link["type"] for link in said] == ["builtins.RuntimeError", "builtins.KeyError"]
    assert said == child.chain(outer)


def test_colours_of_a_terminal_are_not_recorded() -> None:
    """Ray prints the names of its processes in cyan, in exceptions as well."""
    assert child.chain(ValueError("\x1b[36mray::Server.start()\x1b[39m (pid=1)")) == [
        {"type": "builtins.ValueError", "text": "ray::Server.start() (pid=1)"}
    ]


def test_a_child_of_the_program_can_do_without_a_release_that_the_cell_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another client is no other server: only the overlay of that package leaves the path."""
    monkeypatch.setenv(child.OVERLAYS, json.dumps({"openai": "/cache/openai-1", "vllm": "/cache/vllm-1"}))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/cache/openai-1", "/cache/vllm-1", "/project"]))
    assert child.path_without("openai") == os.pathsep.join(["/cache/vllm-1", "/project"])
    assert child.path_without("ray") == os.environ["PYTHONPATH"]


def test_outside_crashcart_nothing_is_said_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (child.PHASES, child.OVERLAYS, child.PARAMS, "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    child.mark("seen")
    assert (child.params(), child.path_without("openai")) == ({}, "")
