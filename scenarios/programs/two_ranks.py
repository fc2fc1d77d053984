"""Two ranks of one job as child processes of a program: started together, waited for, and ended by their own pid."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping

RANKS = 2


def free_port() -> int:
    """Return a TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_ranks(module: str, port: int, env: Mapping[str, str] | None = None) -> list[subprocess.Popen[bytes]]:
    """Start the module once per rank, with the rank and the port as its arguments."""
    return [
        subprocess.Popen([sys.executable, "-m", module, str(rank), str(port)], env={**os.environ, **(env or {})})
        for rank in range(RANKS)
    ]


def wait_all(ranks: list[subprocess.Popen[bytes]], seconds: float) -> list[int | None]:
    """Wait for all ranks for so long together, and return their exit codes; ``None`` of one that still runs."""
    until = time.monotonic() + seconds
    for rank in ranks:
        try:
            rank.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            continue
    return [rank.poll() for rank in ranks]


def kill_all(ranks: list[subprocess.Popen[bytes]]) -> None:
    """End the ranks that still run, and reap them."""
    for rank in ranks:
        if rank.poll() is None:
            rank.kill()
    for rank in ranks:
        rank.wait()
