"""Who is an inner worker of vLLM's, where titles do not say so."""

from __future__ import annotations

import dataclasses

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
