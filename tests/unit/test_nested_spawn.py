"""Who is an inner worker of vLLM's, where titles do not say so."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from harness.attempt import Process
from scenarios.nested_spawn import inner_workers
from tests.unit.attempts import attempt, process

SPAWN = "python -c from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=25, pipe_handle={})"


def child(of: Process, pid: int, name: str) -> Process:
    return dataclasses.replace(process(pid, name), ppid=of.key.pid, parent=of.key)


CORE = dataclasses.replace(process(10, ""), names=(SPAWN.format(27), "VLLM::EngineCore"))


def test_a_spawn_of_a_spawned_process_is_one() -> None:
    worker = child(CORE, 11, SPAWN.format(31))
    assert inner_workers(attempt({}, processes=(CORE, worker))) == [worker]


def test_a_fork_that_was_seen_before_its_exec_is_none() -> None:
    """Recorded on a busy machine: ``uname -p`` of the engine core's, which ended 50 ms after its birth."""
    fork = child(CORE, 11, SPAWN.format(27))
    assert inner_workers(attempt({}, processes=(CORE, fork))) == []


def test_a_title_is_enough() -> None:
    worker = child(CORE, 11, "VLLM::Worker")
    assert inner_workers(attempt({}, processes=(CORE, worker))) == [worker]


TITLED = (
    "import os\n"
    "del os.environ['FIRST']\n"
    "import setproctitle\n"
    "setproctitle.setproctitle('VLLM::Worker')\n"
    "print(open('/proc/self/cmdline').read().strip(chr(0)))\n"
)
SPAWNS = "import subprocess, sys\n{}\nsubprocess.run([sys.executable, '-c', sys.argv[1]], check=True)\n"


@pytest.mark.parametrize(
    ("before", "titled"),
    [("", False), ("from scenarios.programs.local_ray import keep_titles; keep_titles()", True)],
    ids=["as it was", "kept"],
)
def test_a_process_takes_its_title_whatever_became_of_the_first_variable(before: str, *, titled: bool) -> None:
    """Otherwise the signal of an injected cell finds nobody who is called the inner worker."""
    pytest.importorskip("setproctitle")
    program = [sys.executable, "-c", SPAWNS.format(before), TITLED]
    done = subprocess.run(
        ["env", "-i", "FIRST=1", f"PYTHONPATH={Path(__file__).parents[2]}", *program],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout.strip().strip("\0") == "VLLM::Worker") is titled
