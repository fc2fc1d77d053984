"""Speaks the protocol of NCCL's RAS service with words of its own, and has a file of NCCL's name mapped.

``ras_service FOLDER SAYS``: the port stands in ``NCCL_RAS_ADDR``; SAYS is its protocol's number, another line, or
``hangs``.
"""

from __future__ import annotations

import mmap
import os
import socket
import sys
import time
from pathlib import Path


def main() -> None:
    """Serve one client after another."""
    folder, says = Path(sys.argv[1]), sys.argv[2]
    library = folder / "libnccl.so.2"
    library.write_bytes(b"\0" * 4096)
    with library.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    host, _, port = os.environ["NCCL_RAS_ADDR"].rpartition(":")
    server = socket.create_server((host, int(port)))
    (folder / "ready").touch()
    while True:
        client, _ = server.accept()
        with client, client.makefile("rw") as lines:
            assert lines.readline() == "CLIENT PROTOCOL 2\n"
            if says == "hangs":
                time.sleep(60)
            lines.write(f"SERVER PROTOCOL {says}\n" if says.isdigit() else f"{says}\n")
            lines.flush()
            if lines.readline().startswith("TIMEOUT "):
                lines.write("OK\n")
                lines.flush()
            if lines.readline() == "VERBOSE STATUS\n":
                lines.write(f"NCCL version 2.28.9; {len(mapped)} bytes mapped\nJob summary\n")


if __name__ == "__main__":
    main()
