"""Ports that survivors keep: who listens where is recorded when a watched program has ended."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.record import read_run
from harness.supervise.cookie import Survivor, end_survivor
from tests.integration.test_cli import crashcart

SERVER = """
import os, socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.create_server((sys.argv[1], 0), family=family)
quiet = socket.socket()  # bound and not listening: no port that anybody could find taken by a server
quiet.bind(("127.0.0.1", 0))
if os.fork() == 0:
    os.setsid()
    os.close(1)
    os.close(2)
    time.sleep(60)
print(listener.getsockname()[1], flush=True)
"""


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_the_port_of_a_survivor_is_a_finding(host: str, shown: str, tmp_path: Path) -> None:
    """Address and pid, of the listening socket alone."""
    ended = crashcart("watch", "--out", "run", "--", sys.executable, "-c", SERVER, host, cwd=tmp_path)
    (attempt,) = read_run(tmp_path / "run").attempts["watch"]
    (survivor,) = (left for left in attempt.leftovers if left.what == "process")
    assert survivor.key is not None
    assert end_survivor(Survivor(key=survivor.key, title="server", cookie=""))
    sockets = [(left.name, left.key) for left in attempt.leftovers if left.what == "socket"]
    assert sockets == [(f"tcp {shown}:{ended.stdout.strip()}", survivor.key)]
    assert f"socket_left: name tcp {shown}:{ended.stdout.strip()}" in ended.stderr


def test_a_program_that_closes_its_port_leaves_none(tmp_path: Path) -> None:
    """The control: whoever is gone has no port."""
    code = SERVER.replace("time.sleep(60)", "os._exit(0)")
    crashcart("watch", "--out", "run", "--", sys.executable, "-c", code, "127.0.0.1", cwd=tmp_path)
    (attempt,) = read_run(tmp_path / "run").attempts["watch"]
    assert attempt.leftovers == ()
