"""The benchmark of what supervision costs ends, with figures or without, also while it keeps the supervisor stopped."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks import overhead

ENGINE = """
import os, sys
print("ready", os.getpid(), flush=True)
for turn, _ in enumerate(sys.stdin):
    if turn == {last}:
        sys.exit("the engine dies")
    print("figure", turn, flush=True)
"""
SPINS = """
import subprocess, sys, time
def start(*words):
    return subprocess.Popen([sys.executable, "-c", spin, *words], stdout=subprocess.PIPE)
spin = "import time\\nwhile time.process_time() < 0.5: pass\\nprint(flush=True)\\ntime.sleep(600)"
reads, other = start("harness.probes.nvml"), start("another")
for child in (reads, other):
    child.stdout.readline()
subprocess.run([sys.executable, "-c", spin.replace("time.sleep(600)", "")], stdout=subprocess.DEVNULL)
while time.process_time() < 0.5: pass
print(flush=True)
sys.stdin.read()
reads.kill(), other.kill(), reads.wait(), other.wait()
"""


def test_every_turn_has_its_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "TURNS", ENGINE.format(last=99))
    found = overhead.take_turns(2, "tiny")
    assert found.figures == {"watched": [0.0, 3.0], "bare": [1.0, 2.0]}
    assert found.watched_s > 0
    assert 0 <= found.used_s < found.watched_s + 1


def test_the_processor_time_of_a_supervisor_is_its_own_and_its_helpers() -> None:
    """Half a second each: its own, of a child that it has reaped, of one that reads GPUs; another child is left out."""
    command = [sys.executable, "-c", SPINS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        supervisor.stdout.readline()
        used = overhead._used_s(supervisor.pid)
        supervisor.communicate()
    assert 1.4 < used < 1.9


def test_the_ratio_of_turns_is_that_of_neighbours() -> None:
    """An engine that becomes twice as fast halfway: 2% in each pair is 2%, whatever the medians are."""
    bare = [100.0, 100.0, 200.0, 200.0, 200.0]
    watched = [98.0, 98.0, 196.0, 196.0, 190.0]
    assert overhead.paired(watched, bare) == (0.98, 0.95, 0.98)
    assert overhead.paired(bare, bare) == (1.0, 1.0, 1.0)
    _, low, high = overhead.interval(watched, bare)
    assert (low, high) == (0.49, 1.96), "the ratio of the medians has the whole drift in its interval"


@pytest.mark.parametrize("last", [0, 1, 2])
def test_an_engine_that_dies_ends_the_benchmark(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """In turns 1 and 2 its supervisor is stopped, and holds the pipe open that nobody writes to any more."""
    monkeypatch.setattr(overhead, "TURNS", ENGINE.format(last=last))
    with pytest.raises(SystemExit, match="the engine ended before it said 'figure'"):
        overhead.take_turns(2, "tiny")


def test_an_interrupt_keeps_the_rounds_that_were_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes in the fourth turn; the third has no neighbour, and does not count."""
    interrupts = f"os.kill({os.getpid()}, signal.SIGINT); signal.pause()"
    slow = ENGINE.replace('sys.exit("the engine dies")', interrupts).replace("import os", "import signal, os")
    monkeypatch.setattr(overhead, "TURNS", slow.format(last=3))
    found = overhead.take_turns(2, "tiny")
    assert found.figures == {"watched": [0.0], "bare": [1.0]}
