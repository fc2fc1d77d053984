"""Polls in one phase, and waits without end in the next: bites who takes a process for a poller for ever after."""

from __future__ import annotations

import os
import signal
import socket
import time

from harness import child

POLLS_S = 4.0


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = os.fork()
        if server == 0:
            connection, _ = listener.accept()
            connection.recv(100)
            while True:
                signal.pause()
        print(f"suspect pid {server}", flush=True)
        with socket.create_connection(listener.getsockname()) as client:
            with child.phase("start"):
                until = time.monotonic() + POLLS_S
                while time.monotonic() < until:
                    time.sleep(0.02)
            with child.phase("request"):
                client.sendall(b"request")
                print("passed", client.recv(100), flush=True)


if __name__ == "__main__":
    main()
