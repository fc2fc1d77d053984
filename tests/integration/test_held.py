"""What a capture costs its target: measured from outside, and no more than the target itself noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.probes.stack_tools import find
from tests.integration.test_cli import crashcart

pytestmark = pytest.mark.skipif(find("py-spy") is None, reason="py-spy is not installed")

PROGRAM = """
import os, sys, threading, time
for _ in range(200):  # a tool is done with one thread sooner than anybody could look
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("ready", flush=True)
missing, last = 0.0, time.monotonic()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.001)
    now = time.monotonic()
    missing, last = missing + now - last - 0.001, now
print(missing)
"""


def test_the_time_under_trace_is_measured_and_shown(tmp_path: Path) -> None:
    """The program lost at least the time that was measured, give or take; the tool itself ran for longer."""
    stop = tmp_path / "stop"
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(stop)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        slow = ("--without", "eu_stack")  # then py-spy looks for native names itself, while it holds the target
        done = crashcart("snapshot", str(process.pid), "--json", *slow, cwd=tmp_path, timeout=120)
        stop.touch()
        missing = float(process.stdout.read())
    (seen,) = json.loads(done.stdout)["processes"]
    assert seen["held_s"] > 0
    assert seen["held_error_s"] > 0
    assert seen["held_s"] - seen["held_error_s"] <= missing


def test_what_no_tool_touched_was_not_held(tmp_path: Path) -> None:
    """The control: with every tool taken away the stacks come from /proc, which holds nobody."""
    without = [word for name in ("py_spy", "pystack", "eu_stack", "gdb") for word in ("--without", name)]
    with subprocess.Popen(["sleep", "30"]) as process:
        text = crashcart("snapshot", str(process.pid), *without, cwd=tmp_path, timeout=120).stdout
        shown = crashcart("snapshot", str(process.pid), *without, "--json", cwd=tmp_path, timeout=120).stdout
        process.kill()
    assert "not held" in text
    assert json.loads(shown)["processes"][0]["held_s"] == 0
