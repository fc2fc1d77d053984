"""No tracing stop before a finding: the processes of the tree watch each other for a tracer meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.events import StacksCaptured, Suspected
from harness.probes.stack_tools import find
from harness.record import iterate_events
from tests.integration.test_cli import crashcart

PROGRAM = str(Path(__file__).parents[1] / "programs" / "tracer_watch.py")
WATCHERS = 3
FEWEST = 100
"""Looks that each process must have come to take, on however busy a machine."""
needs_a_tool = pytest.mark.skipif(find("py-spy") is None, reason="py-spy is not installed")


def told(output: str) -> tuple[list[float], list[int]]:
    """Return when tracers were first seen, and how many looks each process took."""
    lines = [line.split() for line in output.splitlines()]
    seen = [float(words[1]) for words in lines if words[0] == "traced"]
    return seen, [int(words[1]) for words in lines if words[0] == "looks"]


def test_a_program_that_does_not_hang_is_never_traced(tmp_path: Path) -> None:
    """Every thread of every process, looked at all the time, over several looks of the hang detector."""
    ended = crashcart(
        "watch", "--out", str(tmp_path / "run"), "--", sys.executable, PROGRAM, "6", cwd=tmp_path, timeout=120
    )
    assert ended.returncode == 0
    seen, looks = told(ended.stdout)
    assert len(looks) == WATCHERS
    assert min(looks) > FEWEST
    assert seen == []


@needs_a_tool
def test_a_snapshot_is_seen_to_trace(tmp_path: Path) -> None:
    """The control: the same program sees the tools of a snapshot."""
    with subprocess.Popen([sys.executable, PROGRAM, "20"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert crashcart("snapshot", str(process.pid), cwd=tmp_path, timeout=120).returncode == 0
        seen, _ = told(process.stdout.read())
    assert seen


@needs_a_tool
def test_tracing_begins_after_the_suspicion_is_recorded(tmp_path: Path) -> None:
    """A tree that hangs is traced, and not a moment before the record says why."""
    ended = crashcart(
        "watch", "--out", str(tmp_path / "run"), "--", sys.executable, PROGRAM, "20", "hang", cwd=tmp_path, timeout=120
    )
    events = list(iterate_events(tmp_path / "run"))
    suspected = [event.t_ns / 1e9 for event in events if isinstance(event, Suspected)]
    assert any(isinstance(event, StacksCaptured) and event.tool.startswith("py-spy") for event in events)
    seen, looks = told(ended.stdout)
    assert len(looks) == WATCHERS
    assert seen
    assert min(suspected) < min(seen)
