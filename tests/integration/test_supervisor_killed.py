"""SIGKILL of crashcart itself: the record is readable, the survivors are named, and ended only when told to."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harness
from harness.child import COOKIE
from harness.probes import proc
from harness.probes.proc import read_stat
from harness.supervise.cookie import find_survivors
from tests.integration.test_cli import crashcart
from tests.killed import BEYOND, WHOLE, command_line, kill_after, kill_and_look, settle_s

PROJECT = Path(harness.__file__).parent.parent


@pytest.fixture(scope="module")
def settles(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Return how long the tree takes here until all of it lives."""
    return settle_s(tmp_path_factory.mktemp("first"))


@pytest.mark.parametrize("seed", range(8))
def test_survivors_are_named_at_any_moment(seed: int, settles: float, tmp_path: Path) -> None:
    """Whatever the moment: if anything was recorded it can be read, and every live process of the tree is named."""
    killed = kill_and_look(random.Random(seed).uniform(0, BEYOND * settles), tmp_path)
    assert killed.wrong == ""
    assert not any(proc.is_alive(survivor.key) for survivor in killed.survivors)


def test_doctor_names_them_and_ends_them_only_when_told(tmp_path: Path) -> None:
    """Without --reap nobody is touched; with it all are gone, and the next run may start."""
    (tmp_path / "runs").mkdir()
    directory = kill_after(None, tmp_path)
    directory.rename(tmp_path / "runs" / "20260101T000000Z-abcdef")
    named = json.loads(crashcart("doctor", "--json", cwd=tmp_path).stdout)["survivors"]
    assert len(named) >= WHOLE
    assert all(Path(f"/proc/{survivor['pid']}").exists() for survivor in named)
    ended = json.loads(crashcart("doctor", "--json", "--reap", cwd=tmp_path).stdout)["survivors"]
    assert all(survivor["ended"] for survivor in ended)
    stats = [read_stat(survivor["pid"]) for survivor in named]
    assert all(stat is None or stat.state == "Z" for stat in stats)  # whoever inherits a zombie may be slow to reap it
    assert json.loads(crashcart("doctor", "--json", cwd=tmp_path).stdout)["survivors"] == []


def test_who_asks_is_no_survivor(tmp_path: Path) -> None:
    """In a shell whose supervisor was killed, doctor and the shell itself bear the cookie, and are let be."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    script = f"sleep 30 & {sys.executable} -m harness doctor --json --reap; kill %1 2>/dev/null; true"
    env = {**os.environ, COOKIE: f"0123456789abcdef.{gone.pid}.1.{namespace}", "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(["bash", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    survivors = json.loads(done.stdout)["survivors"]
    assert [(survivor["title"], survivor["ended"]) for survivor in survivors] == [("sleep 30", True)]


@pytest.mark.skipif(os.geteuid() != 0, reason="a pid namespace needs root")
def test_processes_of_a_container_are_not_ours_to_reap(tmp_path: Path) -> None:
    """From outside, the supervisor's pid of another namespace says nothing: its processes are no survivors."""
    script = f"{sys.executable} -m harness watch --out {tmp_path}/run -- sh -c 'sleep 3.217; true' & wait"
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    options = ["--pid", "--fork", "--kill-child", "--mount-proc"]
    with subprocess.Popen(["unshare", *options, "sh", "-c", script], env=env, stderr=subprocess.DEVNULL) as container:
        until = time.monotonic() + 10
        while not any(b"sleep\x003.217" in command_line(entry) for entry in Path("/proc").iterdir()):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert not [survivor for survivor in find_survivors([tmp_path / "run"]) if "3.217" in survivor.title]
        assert container.wait(timeout=30) == 0
