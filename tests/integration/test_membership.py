"""Who belongs to an attempt: nobody who tries gets away, and nobody else is claimed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.events import AttemptStarted, ProcessBorn
from harness.probes import cgroup
from harness.record import iterate_events
from tests.integration.test_cli import crashcart

ESCAPEES = Path(__file__).parents[1] / "programs" / "escapees.py"
NAMES = ("setsid", "double_fork", "closed", "renamed", "cleared", "exec_chain", "older_server")
DAEMON = "import os,time; os.write(1, b'older_server %d %f\\n' % (os.getpid(), time.monotonic())); time.sleep(4)"
TOLD_S = 1.0


@pytest.fixture
def older_server(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A server that was there before: starts a daemon with the environment that it is sent, as a raylet does."""
    path, told = tmp_path / "socket", tmp_path / "daemon"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, told.open("wb") as out:
            sent = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
            env = dict(line.split("=", 1) for line in sent.split("\0"))
            daemon = subprocess.Popen([sys.executable, "-c", DAEMON], env=env, stdout=out, start_new_session=True)
            connection.sendall(b".")
        daemon.wait()

    thread = threading.Thread(target=serve)
    thread.start()
    yield path, told
    thread.join()
    listener.close()


@pytest.fixture
def bystanders() -> Iterator[set[int]]:
    """Processes of others that start all the time, some of them orphans; none of them is ours to claim."""
    pids: set[int] = set()
    stop = threading.Event()

    def start() -> None:
        while not stop.is_set():
            shell = subprocess.Popen(["sh", "-c", "sleep 0.2 & echo $! $$; sleep 0.05"], stdout=subprocess.PIPE)
            out, _ = shell.communicate()
            pids.update(int(pid) for pid in out.split())

    thread = threading.Thread(target=start)
    thread.start()
    yield pids
    stop.set()
    thread.join()


@pytest.mark.parametrize("without", [(), ("cgroup",)], ids=["cgroup", "no cgroup"])
def test_nobody_escapes_and_nobody_else_is_claimed(
    without: tuple[str, ...], older_server: tuple[Path, Path], bystanders: set[int], tmp_path: Path
) -> None:
    """setsid, double fork, closed descriptors, a new name, no environment, exec chains, a daemon of an older server."""
    options = [word for name in without for word in ("--without", name)]
    ended = crashcart(
        "watch", "--out", str(tmp_path / "run"), *options, "--", sys.executable, str(ESCAPEES), str(older_server[0]),
        cwd=tmp_path, timeout=120,
    )  # fmt: skip
    lines = [line.split() for line in (ended.stdout + older_server[1].read_text()).splitlines()]
    told = {name: (int(pid), float(at)) for name, pid, at in lines}
    assert sorted(told) == sorted(NAMES)
    born: dict[int, float] = {}
    ours: set[int] = set()
    for event in iterate_events(tmp_path / "run"):
        if isinstance(event, ProcessBorn):
            born[event.key.pid] = event.t_ns / 1e9
            ours.add(event.key.pid)
        elif isinstance(event, AttemptStarted):
            assert event.cookie
    late = {name: born.get(pid, float("inf")) - at for name, (pid, at) in told.items()}
    assert {name: seconds for name, seconds in late.items() if seconds > TOLD_S} == {}
    assert len(bystanders) > 20
    assert ours & bystanders == set()
    assert os.getpid() not in ours


@pytest.mark.skipif(cgroup.probe() is not None, reason="no cgroup can be made here")
def test_the_group_goes_with_its_attempt(tmp_path: Path) -> None:
    """What is made is removed: no group of it stays when nothing of it lives; while it lived there was one."""
    script = "sleep 1; cat /proc/self/cgroup"  # it is moved right after its start
    ended = crashcart("watch", "--out", str(tmp_path / "run"), "--", "sh", "-c", script, cwd=tmp_path)
    (cookie,) = (event.cookie for event in iterate_events(tmp_path / "run") if isinstance(event, AttemptStarted))
    assert cookie in ended.stdout
    assert cookie not in {left for left, _ in cgroup.left_groups()}
