"""A client asks a closed port again and again with growing pauses: waiting for a server that is not up yet."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import suppress


def main() -> None:
    end = time.monotonic() + float(sys.argv[1])
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and never listening: every attempt is refused
        pause = 0.5
        while time.monotonic() < end:
            with suppress(ConnectionRefusedError), socket.create_connection(reserved.getsockname(), timeout=5):
                pass
            time.sleep(pause)
            pause = min(20.0, pause * 2)
    print("done", flush=True)


if __name__ == "__main__":
    main()
