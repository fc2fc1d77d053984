"""Hangs of the zoo that need no stack, under plain watch: found in time, with class and suspect; idlers are let be."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.probes.proc import read_stat
from harness.supervise.waitgraph import dead_processes
from harness.supervise.waits import outside_holders, read_graph
from tests.integration.test_cli import crashcart
from tests.zoo.catalogue import CATALOGUE
from tests.zoo.programs import Program, build
from tests.zoo.watching import ALLOWED_S, look

HANGS = ("locks_abba", "condition_lost_wakeup", "pipe_full", "unix_both_wait", "vfork_sleeper", "wait_for_stopped")
PIPED = ("stdin_of_parent", "both_send", "queue_producer_gone")
DECLARED = (
    "spin_c_gil",
    "sleeping_peer",
    "polled_before",
    "spin_python",
    "fifo_no_reader",
    "http_calls_itself",
    "polite_locks",
)
ASKING = ("wait_for_server", "locked_database")
IDLE = ("http_idle", "sleep_wait", "event_main", "fifo_server", "stopped_continued", "zombie_kept")
BY_SIGNAL = ("signal_loop", "wake_by_child")
PROGRAMS = {program.name: program for program in CATALOGUE}


def program(name: str) -> Program:
    """Return a program of the zoo, or skip where the machine lacks what it needs."""
    found = PROGRAMS[name]
    if why := found.missing():
        pytest.skip(why)
    return found


@pytest.mark.parametrize("name", [*HANGS, *PIPED, *DECLARED])
def test_a_hang_is_found_in_time_with_class_and_suspect(name: str, tmp_path: Path) -> None:
    """Proved where it can be, from /proc alone, within 15 s of being there."""
    build(program(name), tmp_path)
    result = look(program(name), tmp_path, program(name).settle_s + ALLOWED_S + 5)
    assert result.wrong() == ""


def test_patience_is_an_option(tmp_path: Path) -> None:
    """With three seconds of it a quiet phase is called hung after three, and the tree ended as ordered."""
    ended = crashcart(
        "watch", "--hang-after", "3", "--on-hang", "kill", "--timeout", "50", "--out", "run", "--",
        *program("sleeping_peer").argv(tmp_path), cwd=tmp_path,
    )  # fmt: skip
    assert ended.returncode == 124
    assert "nothing has moved for 3 s" in ended.stderr
    assert re.search(r"^crashcart: .*, 1 finding; record in run$", ended.stderr, re.MULTILINE)
    assert re.search(r"^  hang: \w+ \(suspected\)\n      \S", ended.stderr, re.MULTILINE)


@pytest.mark.parametrize("name", [*IDLE, *ASKING, *BY_SIGNAL])
def test_idle_is_not_hung(name: str, tmp_path: Path) -> None:
    """Something outside, a timer or a child that works can still wake it: nothing is said for 15 s."""
    build(program(name), tmp_path)
    assert look(program(name), tmp_path, ALLOWED_S).wrong() == ""


RECEIVE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
queue = libc.mq_open(sys.argv[1].encode(), os.O_CREAT | os.O_RDWR, 0o600, None)
assert queue >= 0, os.strerror(ctypes.get_errno())
print("open", flush=True)
libc.mq_receive(queue, ctypes.create_string_buffer(1 << 16), 1 << 16, None)
"""


@pytest.mark.parametrize("named", [True, False], ids=["named", "unlinked"])
def test_a_message_queue_with_a_name_may_be_opened_by_anybody(named: bool) -> None:
    """One without a name is only for who has it open: its lonely reader is dead."""
    name = f"/crashcart.test.{os.getpid()}"
    with subprocess.Popen([sys.executable, "-c", RECEIVE, name], stdout=subprocess.PIPE) as reader:
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"open\n"
            if not named:
                assert ctypes.CDLL(None).mq_unlink(name.encode()) == 0
            stat = read_stat(reader.pid)
            assert stat is not None
            graph = read_graph({stat.key: "reader"})
            while graph.nodes[0].wait.call != "mq_timedreceive":
                graph = read_graph({stat.key: "reader"})
            assert dead_processes(graph, polling_is_life=True) == (set() if named else {stat.key})
            assert outside_holders(graph, [stat.key], [reader.pid]) is None
        finally:
            ctypes.CDLL(None).mq_unlink(name.encode())
            reader.kill()


def test_a_message_queue_that_a_stranger_has_open_is_no_deadlock() -> None:
    """Its name is gone, and a process outside the tree may still write to it; one of the same old name may not."""
    name = f"/crashcart.test.{os.getpid()}".encode()
    libc = ctypes.CDLL(None)
    with subprocess.Popen([sys.executable, "-c", RECEIVE, name], stdout=subprocess.PIPE) as reader:
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"open\n"
            ours = libc.mq_open(name, os.O_WRONLY)
            libc.mq_unlink(name)
            stat = read_stat(reader.pid)
            assert stat is not None
            graph = read_graph({stat.key: "reader"})
            while graph.nodes[0].wait.call != "mq_timedreceive":
                graph = read_graph({stat.key: "reader"})
            assert f"pid {os.getpid()} " in str(outside_holders(graph, [stat.key], [reader.pid]))
            os.close(ours)
            another = libc.mq_open(name, os.O_CREAT | os.O_WRONLY, 0o600, None)
            libc.mq_unlink(name)
            assert outside_holders(graph, [stat.key], [reader.pid]) is None
            os.close(another)
        finally:
            reader.kill()
