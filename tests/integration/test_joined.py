"""Python frames from py-spy between native ones from eu-stack: of live processes, quiet and busy ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.events import StacksCaptured
from harness.probes import proc, stack_tools
from harness.probes.stack_tools import StackTool, find
from harness.probes.threads import read_waits
from harness.stacks import ThreadStack, joined, parse
from harness.stacks.model import Process
from harness.supervise.capture import CaptureJob

pytestmark = [
    pytest.mark.skipif(find("py-spy") is None, reason="py-spy is not installed"),
    pytest.mark.skipif(find("eu-stack") is None, reason="eu-stack is not installed"),
    pytest.mark.skipif(find("eu-addr2line") is None, reason="eu-addr2line is not installed"),
]
QUIET = """
import threading, time
def leaf(_): time.sleep(60)
def through_c(_): sorted([1], key=leaf)
def deep(n): sorted([n - 1], key=deep if n else through_c)
threading.Thread(target=deep, args=(100,), daemon=True).start()
print("ready", flush=True)
through_c(0)
"""
BUSY = """
import itertools
def deep(n): return n and sorted([n - 1], key=deep)
print("ready", flush=True)
for n in itertools.cycle(range(200)): deep(n)
"""


@contextmanager
def running(program: str) -> Iterator[proc.Stat]:
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        stat = proc.read_stat(child.pid)
        assert stat is not None
        yield stat
        child.kill()


def at_rest(stat: proc.Stat, threads: int) -> None:
    while [wait.call for wait in read_waits(stat.pid)] != ["clock_nanosleep"] * threads:
        time.sleep(0.01)


def capture(stat: proc.Stat, folder: Path, *without: str) -> tuple[StacksCaptured, list[ThreadStack]]:
    events: list[object] = []
    folder.mkdir(exist_ok=True)
    job = CaptureJob([stat.key], folder / "stacks", events.append, set(), frozenset(without))
    while not job.advance():
        pass
    (dump,) = [event for event in events if isinstance(event, StacksCaptured) and event.tool != "proc"]
    return dump, parse((folder / dump.path).read_text(), Process(stat.key, "python"), partial=dump.partial)


def test_a_quiet_process_shows_the_same_python_frames_as_py_spy_alone(tmp_path: Path) -> None:
    """And between them what C did, with names."""
    with running(QUIET) as stat:
        at_rest(stat, 2)
        dump, both = capture(stat, tmp_path / "a")
        single, alone = capture(stat, tmp_path / "b", "eu_stack")
    assert (dump.tool, dump.partial, dump.detail) == ("py-spy + eu-stack", False, "")
    assert single.tool == "py-spy --native"
    python = {stack.thread_id: [frame for frame in stack.frames if not frame.native] for stack in both}
    assert len(python) == 2
    assert python == {stack.thread_id: [frame for frame in stack.frames if not frame.native] for stack in alone}
    for stack in both:
        names = [frame.name for frame in stack.frames]
        inner = names[names.index("through_c") :]
        assert inner.index("list_sort") < inner.index("leaf") < inner.index("time_sleep")
        assert not stack.partial


def test_a_process_that_a_signal_has_stopped_shows_its_python_frames_and_stays_stopped(tmp_path: Path) -> None:
    """py-spy refuses to stop it once more, and reads its memory without."""
    with running(QUIET) as stat:
        at_rest(stat, 2)
        os.kill(stat.pid, signal.SIGSTOP)
        while proc.read_stat(stat.pid).state != "T":  # type: ignore[union-attr]
            time.sleep(0.01)
        dump, stacks = capture(stat, tmp_path)
        after = proc.read_stat(stat.pid)
    assert (dump.tool, dump.partial, dump.detail) == ("py-spy + eu-stack", False, "")
    assert {stack.frames[-1].name for stack in stacks} == {"clock_nanosleep"}
    assert all("leaf" in [frame.name for frame in stack.frames] for stack in stacks)
    assert after is not None
    assert after.state == "T"


def test_of_a_busy_process_the_python_frames_of_one_moment_are_kept(tmp_path: Path) -> None:
    """Its depth changes all the time, so the two dumps hardly ever agree: the record says so, nothing is missing."""
    with running(BUSY) as stat:
        for number in range(5):
            dump, (stack,) = capture(stat, tmp_path / str(number))
            if dump.detail:  # one time in a hundred the depth is the same
                break
    assert (dump.tool, dump.partial, stack.partial) == ("py-spy + eu-stack", False, False)
    assert dump.detail == "1 thread ran on between the two tools: only its Python frames are kept"
    assert [frame for frame in stack.frames if frame.native] == [joined.RAN_ON]
    assert [frame.name for frame in stack.frames][:2] == ["<module>", "deep"]


def test_an_interpreter_without_symbols_is_left_to_the_next_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.stacks.joined._LOOP", "not there")
    with running(QUIET) as stat:
        at_rest(stat, 2)
        dump, _ = capture(stat, tmp_path)
    assert (dump.tool, dump.partial) == ("py-spy --native", False)
    assert dump.detail == "py-spy + eu-stack: the interpreter's loop has no symbol"


def test_a_second_half_that_cannot_be_had_is_left_to_the_next_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is missing then, and the record says what was tried."""
    no_eu_stack(monkeypatch, "exit 1")
    with running(QUIET) as stat:
        at_rest(stat, 2)
        dump, stacks = capture(stat, tmp_path)
    assert (dump.tool, dump.partial, len(stacks)) == ("py-spy --native", False, 2)
    assert dump.detail.startswith("py-spy + eu-stack: ended with 1")
    assert [path.name for path in (tmp_path / "stacks").glob("*joined*")] == []


def test_python_frames_are_kept_of_a_process_that_ends_before_the_second_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(QUIET) as stat:
        at_rest(stat, 2)
        no_eu_stack(monkeypatch, f"kill -9 {stat.pid}; sleep 0.5; exit 1")
        dump, stacks = capture(stat, tmp_path)
    assert (dump.tool, dump.partial) == ("py-spy + eu-stack", True)
    assert "gone" in dump.detail
    assert {stack.frames[-1].name for stack in stacks} == {"leaf"}


def test_python_frames_are_kept_when_the_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_eu_stack(monkeypatch, "exec sleep 30")
    (tmp_path / "stacks").mkdir()
    events: list[object] = []
    with running(QUIET) as stat:
        at_rest(stat, 2)
        job = CaptureJob([stat.key], tmp_path / "stacks", events.append, set())
        until = time.monotonic() + 1
        while time.monotonic() < until:
            job.advance()
        assert not job.done
        job.close()
    (dump,) = [event for event in events if isinstance(event, StacksCaptured) and event.tool != "proc"]
    assert (dump.tool, dump.partial) == ("py-spy + eu-stack", True)
    assert "the time for all captures was up" in dump.detail
    assert "leaf" in (tmp_path / dump.path).read_text()


def no_eu_stack(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let something else run in its place."""
    real = stack_tools.tools_for

    def tools(pid: int, without: frozenset[str]) -> Sequence[StackTool]:
        both, *rest = real(pid, without)
        return [replace(both, then=("sh", "-c", script)), *rest]

    monkeypatch.setattr("harness.supervise.capture.tools_for", tools)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder, first on the PATH, for programs that the kernel cannot start."""
    folder = tmp_path / "broken"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"\x7fnothing")
        (folder / name).chmod(0o755)


def test_a_second_tool_that_cannot_be_started_leaves_it_to_the_next(tmp_path: Path, broken: Path) -> None:
    """An error of the kernel is a failure of that tool, told as such, and no end of the supervision."""
    put(broken, "eu-stack")
    with running(QUIET) as stat:
        at_rest(stat, 2)
        dump, stacks = capture(stat, tmp_path)
    assert (dump.tool, dump.partial) == ("py-spy --native", False)
    assert "Exec format error" in dump.detail
    assert len(stacks) == 2


def test_names_that_cannot_be_looked_for_leave_it_to_the_next(tmp_path: Path, broken: Path) -> None:
    """Without names the halves cannot be joined."""
    put(broken, "eu-addr2line")
    with running(QUIET) as stat:
        at_rest(stat, 2)
        dump, _ = capture(stat, tmp_path)
    assert dump.tool == "py-spy --native"
    assert "names: " in dump.detail
    assert "Exec format error" in dump.detail


def test_where_no_tool_can_be_started_that_is_said(tmp_path: Path, broken: Path) -> None:
    """One capture, without a stack, with every tool's reason."""
    put(broken, "eu-stack", "eu-addr2line", "gdb", "cuda-gdb")
    with running(QUIET) as stat:
        events: list[object] = []
        without = frozenset({"py_spy", "pystack"})
        job = CaptureJob([stat.key], tmp_path / "stacks", events.append, set(), without)
        while not job.advance():
            pass
    (dump,) = [event for event in events if isinstance(event, StacksCaptured) and event.tool != "proc"]
    assert (dump.tool, dump.path) == ("none", "")
    assert "eu-stack: " in dump.detail
    assert dump.detail.count("Exec format error") >= 2
