"""Reads from a socket whose other end, in the same tree, sleeps without end: bites clients of stuck servers."""

from __future__ import annotations

import os
import signal
import socket

from harness import child


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = os.fork()
        if server == 0:
            connection, _ = listener.accept()
            connection.recv(100)
            while True:
                signal.pause()
        print(f"suspect pid {server}", flush=True)
        with child.phase("request"), socket.create_connection(listener.getsockname()) as client:
            client.sendall(b"request")
            print("passed", client.recv(100), flush=True)


if __name__ == "__main__":
    main()
