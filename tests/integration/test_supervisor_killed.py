"""SIGKILL of crashcart itself: the record is readable, the survivors are named, and ended only when told to."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harness
from harness.probes.proc import read_stat
from harness.record import iterate_events, read_run
from harness.supervise.cookie import end_survivor, find_survivors
from tests.integration.test_cli import crashcart

MARK = f".{os.getpid():07}"
"""A fraction of a second that no sleep of anybody else has."""
LAST = f"603{MARK}"
"""What the last process of the tree sleeps."""
TREE = (
    f"sleep 600{MARK} & (setsid sleep 601{MARK} &); env -i sleep 602{MARK} & "
    f"for i in 1 2 3 4 5 6 7 8 9; do sleep 0.05; done; sleep {LAST}"
)


def kill_after(seconds: float | None, folder: Path) -> Path:
    """Start a watched tree that would live on, kill the supervisor at that moment, return the run directory.

    Without a moment, it is the one at which the tree is complete.
    """
    env = {**os.environ, "PYTHONPATH": str(Path(harness.__file__).parent.parent)}
    command = [sys.executable, "-m", "harness", "watch", "--out", str(folder / "run"), "--", "sh", "-c", TREE]
    with subprocess.Popen(command, env=env, cwd=folder, stderr=subprocess.DEVNULL) as process:
        try:
            if seconds is None:
                wait_for(LAST)
            else:
                time.sleep(seconds)
        finally:
            process.send_signal(signal.SIGKILL)
    return folder / "run"


def wait_for(sleep: str) -> None:
    """Wait until somebody sleeps that long."""
    until = time.monotonic() + 30
    while not any(_command_line(entry).endswith(b"sleep\0%s\0" % sleep.encode()) for entry in Path("/proc").iterdir()):
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("seed", range(8))
def test_survivors_are_named_at_any_moment(seed: int, tmp_path: Path) -> None:
    """Whatever the moment: if anything was recorded it can be read, and every live process of the tree is named."""
    directory = kill_after(random.Random(seed).uniform(0.15, 1.2), tmp_path)
    survivors = find_survivors([directory])
    try:
        if (directory / "run.json").exists():
            assert sum(event is None for event in iterate_events(directory)) <= 1
            assert not read_run(directory).ended
        alive = {
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and MARK.encode() in _command_line(entry).rpartition(b"sleep\0")[2]
        }
        assert alive <= {survivor.key.pid for survivor in survivors}
    finally:
        while survivors:  # until its shell is gone, there is always another one
            assert all(end_survivor(survivor, grace_s=1.0) for survivor in survivors)
            survivors = find_survivors([directory])


def _command_line(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def test_doctor_names_them_and_ends_them_only_when_told(tmp_path: Path) -> None:
    """Without --reap nobody is touched; with it all are gone, and the next run may start."""
    (tmp_path / "runs").mkdir()
    directory = kill_after(None, tmp_path)
    directory.rename(tmp_path / "runs" / "20260101T000000Z-abcdef")
    named = json.loads(crashcart("doctor", "--json", cwd=tmp_path).stdout)["survivors"]
    assert len(named) >= 3
    assert all(Path(f"/proc/{survivor['pid']}").exists() for survivor in named)
    ended = json.loads(crashcart("doctor", "--json", "--reap", cwd=tmp_path).stdout)["survivors"]
    assert all(survivor["ended"] for survivor in ended)
    stats = [read_stat(survivor["pid"]) for survivor in named]
    assert all(stat is None or stat.state == "Z" for stat in stats)  # whoever inherits a zombie may be slow to reap it
    assert json.loads(crashcart("doctor", "--json", cwd=tmp_path).stdout)["survivors"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a pid namespace needs root")
def test_processes_of_a_container_are_not_ours_to_reap(tmp_path: Path) -> None:
    """From outside, the supervisor's pid of another namespace says nothing: its processes are no survivors."""
    script = f"{sys.executable} -m harness watch --out {tmp_path}/run -- sh -c 'sleep 3.217; true' & wait"
    env = {**os.environ, "PYTHONPATH": str(Path(harness.__file__).parent.parent)}
    options = ["--pid", "--fork", "--kill-child", "--mount-proc"]
    with subprocess.Popen(["unshare", *options, "sh", "-c", script], env=env, stderr=subprocess.DEVNULL) as container:
        wait_for("3.217")
        assert not [survivor for survivor in find_survivors([tmp_path / "run"]) if "3.217" in survivor.title]
        assert container.wait(timeout=30) == 0
