"""Asks a server ten times a second whether it is up, in a declared phase, while the server sleeps before it listens."""

from __future__ import annotations

import multiprocessing
import socket
import sys
import time

from harness import child


def serve(port: int, seconds: float) -> None:
    time.sleep(seconds)  # as one whose download is rationed, or who waits for a slot
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.accept()[0].close()


def main() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    server = multiprocessing.get_context("fork").Process(target=serve, args=(port, float(sys.argv[1])))
    server.start()
    with child.phase("server_start"):
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
    server.join()
    print("done", flush=True)


if __name__ == "__main__":
    main()
