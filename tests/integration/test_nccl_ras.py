"""NCCL's RAS service is found by its listener in the tree, asked by its protocol, and never waited for.

No NCCL here: the service is a program of ours that speaks the lines of NCCL's client (``src/ras/client.cc``).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.events import Event, HarnessNote, ProcessKey
from harness.probes import nccl_ras
from harness.probes.gpu import Unavailable
from harness.probes.nccl_ras import ask, find_service
from harness.probes.proc import read_stat
from harness.supervise import capture
from harness.supervise.capture import CaptureJob

Start = Callable[[str], tuple[subprocess.Popen[bytes], int]]
NO_TOOLS = frozenset({"py_spy", "pystack", "eu_stack", "gdb", "cuda_gdb", "rocgdb"})


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a starter of services that are ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(says: str) -> tuple[subprocess.Popen[bytes], int]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        argv = (sys.executable, "-m", "tests.programs.ras_service", str(tmp_path), says)
        env = {**os.environ, "NCCL_RAS_ADDR": f"127.0.0.1:{port}"}
        started.append(subprocess.Popen(argv, env=env))
        until = time.monotonic() + 10
        while not (tmp_path / "ready").exists() and time.monotonic() < until:
            time.sleep(0.01)
        return started[-1], port

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_the_service_of_the_tree_is_found_and_answers(start: Start) -> None:
    """By the mapped library, the address in the environment, and the listener among its descriptors."""
    process, port = start("2")
    assert find_service([process.pid]) == ("127.0.0.1", port)
    assert ask("127.0.0.1", port).endswith("Job summary\n")


def test_a_service_of_others_is_left_alone(start: Start) -> None:
    """The port is open, but no process of this tree has NCCL, let alone the listener."""
    start("2")
    found = find_service([os.getpid()])
    assert isinstance(found, Unavailable)
    assert "no process of the tree has NCCL loaded" in found.reason


def test_something_else_on_the_port_is_an_error(start: Start) -> None:
    _, port = start("HTTP/1.1 400 Bad Request")
    with pytest.raises(OSError, match=r"unexpected answer 'HTTP/1\.1 400"):
        ask("127.0.0.1", port)


def captured(process: subprocess.Popen[bytes], folder: Path) -> list[str]:
    """Take the stacks of a process without any tool, and return the notes."""
    seen: list[Event] = []
    stat = read_stat(process.pid)
    assert stat is not None
    job = CaptureJob([ProcessKey(stat.key.pid, stat.key.start)], folder, seen.append, set(), NO_TOOLS)
    while not job.advance():
        time.sleep(0.02)
    return [event.note for event in seen if isinstance(event, HarnessNote)]


def test_a_capture_keeps_its_answer_beside_the_stacks(start: Start, tmp_path: Path) -> None:
    process, _ = start("2")
    assert captured(process, tmp_path / "stacks") == ["NCCL's RAS service said what stands in stacks/nccl-ras.txt"]
    assert "NCCL version 2.28.9" in (tmp_path / "stacks" / "nccl-ras.txt").read_text()


def test_a_service_that_hangs_costs_a_note(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cut off with the capture, and leaves no empty file."""
    monkeypatch.setattr(capture, "TOTAL_S", 1.0)
    assert nccl_ras.CONNECT_S >= 1.0
    process, _ = start("hangs")
    (note,) = captured(process, tmp_path / "stacks")
    assert note.startswith("no word from NCCL")
    assert not (tmp_path / "stacks" / "nccl-ras.txt").exists()
