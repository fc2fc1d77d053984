"""A supervisor that was paused, as under a debugger or by Ctrl-Z, does not take its own pause for a hang.

While a machine is suspended CLOCK_MONOTONIC stands still, and so do all clocks here; SIGSTOP is the harder case: the
clock runs on, and so does the program.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harness
from harness.events import Suspected
from harness.record import iterate_events

PAUSE_S = 20.0
CYCLES = 8
PROGRAM = f"""
import os, signal, subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
began = time.monotonic()
for cycle in range({CYCLES}):
    os.kill(child.pid, signal.SIGSTOP)
    print("stopped", flush=True)
    time.sleep(began + 5 * cycle + 4 - time.monotonic())
    os.kill(child.pid, signal.SIGCONT)
    time.sleep(began + 5 * cycle + 5 - time.monotonic())
child.kill()
"""


@pytest.mark.slow
def test_a_pause_of_the_supervisor_is_no_hang(tmp_path: Path) -> None:
    """A child that is stopped for four seconds in five looks stopped before the pause, and after it, and is not."""
    command = [sys.executable, "-m", "harness", "watch", "--out", "run", "--", sys.executable, "-c", PROGRAM]
    env = {**os.environ, "PYTHONPATH": str(Path(harness.__file__).parent.parent)}
    with subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as watch:
        assert watch.stdout is not None
        for _ in range(2):
            assert watch.stdout.readline() == b"stopped\n"
        time.sleep(2.0)  # it has been seen stopped
        watch.send_signal(signal.SIGSTOP)
        time.sleep(PAUSE_S)  # four whole cycles: it is stopped again
        watch.send_signal(signal.SIGCONT)
        watch.stdout.read()
        assert watch.wait(timeout=60) == 0
    assert [event for event in iterate_events(tmp_path / "run") if isinstance(event, Suspected)] == []
