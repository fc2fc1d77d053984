"""A download of a few bytes every three seconds from a local server: the client waits in recv."""

from __future__ import annotations

import os
import socket
import sys
import time


def serve(listener: socket.socket, seconds: float) -> None:
    connection, _ = listener.accept()
    end = time.monotonic() + seconds
    with connection:
        while time.monotonic() < end:
            connection.sendall(b"x" * 100)
            time.sleep(3)


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = os.fork()
        if server == 0:
            serve(listener, float(sys.argv[1]))
            os._exit(0)
        size = 0
        with socket.create_connection(listener.getsockname()) as client:
            while part := client.recv(4096):
                size += len(part)
        os.waitpid(server, 0)
        print("done", size, flush=True)


if __name__ == "__main__":
    main()
