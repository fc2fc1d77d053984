"""Processes that try to get away from whoever watches; each is printed as ``name pid monotonic-seconds`` when it is so.

Argument: the path of a socket of an older server that starts a daemon for us, as a raylet starts its workers.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import time
from collections.abc import Callable

LIFE_S = 4


def say(name: str, pid: int | None = None) -> None:
    """Tell who we are, in one write, so that lines of several processes never mix."""
    os.write(1, f"{name} {os.getpid() if pid is None else pid} {time.monotonic()}\n".encode())


def escape(name: str, *steps: Callable[[], object]) -> None:
    """Fork a child that takes the steps and lives on."""
    if os.fork() == 0:
        for step in steps:
            step()
        say(name)
        time.sleep(LIFE_S)
        os._exit(0)


def fork_away() -> None:
    """Let a child go on in our place."""
    if os.fork():
        os._exit(0)


def close_all() -> None:
    """Close every descriptor but stdout, which the test reads."""
    os.closerange(2, 1024)
    os.close(0)


def rename() -> None:
    """Take the name of a kernel thread."""
    ctypes.CDLL(None).prctl(15, b"kworker/0:1", 0, 0, 0)


def exec_chain(left: int) -> None:
    """Exec this file again and again with an empty environment, then live on."""
    if left == 0:
        say("exec_chain")
        time.sleep(LIFE_S)
        os._exit(0)
    os.execve(sys.executable, [sys.executable, "-S", __file__, "--chain", str(left - 1)], {})  # noqa: S606


def cleared() -> None:
    """Become another program with nothing in its environment."""
    script = "import os,time; os.write(1, b'cleared %d %f\\n' % (os.getpid(), time.monotonic())); time.sleep(4)"
    os.execve(sys.executable, [sys.executable, "-S", "-c", script], {})  # noqa: S606


def main() -> None:
    """Make all of them, then 2,000 short-lived children, and wait for nobody else."""
    if sys.argv[1] == "--chain":
        exec_chain(int(sys.argv[2]))
    escape("setsid", os.setsid)
    escape("double_fork", fork_away, os.setsid, fork_away)
    escape("closed", os.setsid, close_all)
    escape("renamed", fork_away, rename)
    escape("cleared", fork_away, os.setsid, cleared)
    escape("exec_chain", fork_away, lambda: exec_chain(20))
    with socket.socket(socket.AF_UNIX) as older:
        older.connect(sys.argv[1])
        older.sendall("\0".join(f"{key}={value}" for key, value in os.environ.items()).encode())
        older.shutdown(socket.SHUT_WR)
        older.recv(1)
    for _ in range(2000):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    time.sleep(LIFE_S)


if __name__ == "__main__":
    main()
