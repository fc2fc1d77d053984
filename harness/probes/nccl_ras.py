"""What NCCL's own RAS service says of a job: its communicators, and ranks that do not answer (NCCL 2.24 and later).

Every process with NCCL runs a thread of it; the first on a machine listens for clients on port 28028, or where
``NCCL_RAS_ADDR`` says. The protocol is that of NCCL's client (``src/ras/client.cc``, protocol 2): lines of text.
Asked only of a listener that belongs to the tree, in a process of its own, and never before something is suspected.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.probes.gpu import Unavailable
from harness.probes.proc import read_bytes, read_cookie

NAME: Final = "nccl_ras"
PORT: Final = 28028
LISTEN: Final = "0A"
ANSWER_S: Final = 3
"""How long NCCL may wait for its other processes, in seconds; its own default is 5."""
CONNECT_S: Final = 1.0
EXTRA_S: Final = 3.0


def find_service(pids: Sequence[int], proc: Path = Path("/proc")) -> tuple[str, int] | Unavailable:
    """Return host and port of the RAS service of these processes, or why there is none to be asked."""
    using = [pid for pid in pids if b"libnccl" in read_bytes(str(proc / str(pid) / "maps"))]
    if not using:
        return Unavailable(probe=NAME, reason="no process of the tree has NCCL loaded")
    said = next(filter(None, (read_cookie(pid, b"NCCL_RAS_ADDR") for pid in using)), "")
    host, _, number = said.rpartition(":")
    port = int(number) if number.isdecimal() else PORT
    if _listener(port, proc) & {inode for pid in using for inode in _sockets(pid, proc)}:
        return host or "localhost", port
    reason = f"no process of the tree listens on port {port} (RAS is off, older than NCCL 2.24, or another job has it)"
    return Unavailable(probe=NAME, reason=reason)


def ask(host: str, port: int) -> str:
    """Return the verbose status of a job.

    Raises:
        OSError: If the service cannot be reached, does not answer in time, or answers something else.
    """
    with socket.create_connection((host, port), timeout=CONNECT_S) as channel, channel.makefile("r") as lines:
        channel.sendall(b"CLIENT PROTOCOL 2\n")
        _expect(lines.readline(), "SERVER PROTOCOL ")
        channel.sendall(f"TIMEOUT {ANSWER_S}\n".encode())
        _expect(lines.readline(), "OK")
        channel.settimeout(ANSWER_S + EXTRA_S)
        channel.sendall(b"VERBOSE STATUS\n")
        return lines.read()


def _expect(line: str, beginning: str) -> None:
    if not line.startswith(beginning):
        msg = f"unexpected answer {line.strip()[:80]!r} instead of {beginning.strip()!r}"
        raise OSError(msg)


def _listener(port: int, proc: Path) -> set[int]:
    found = set()
    for name in ("tcp", "tcp6"):
        for line in read_bytes(str(proc / "net" / name)).decode().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(int(fields[9]))
    return found


def _sockets(pid: int, proc: Path) -> set[int]:
    try:
        links = [os.readlink(entry.path) for entry in os.scandir(proc / str(pid) / "fd")]
    except OSError:
        return set()
    return {int(link[8:-1]) for link in links if link.startswith("socket:[")}


if __name__ == "__main__":
    try:
        sys.stdout.write(ask(sys.argv[1], int(sys.argv[2])))
    except OSError as error:
        sys.exit(f"NCCL's RAS service at {sys.argv[1]}:{sys.argv[2]}: {error}")
