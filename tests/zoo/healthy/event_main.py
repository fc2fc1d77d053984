"""A service whose main thread waits for an event that a signal handler sets, while a daemon thread listens."""

from __future__ import annotations

import signal
import socket
import threading

ending = threading.Event()


def serve(listener: socket.socket) -> None:
    while True:
        listener.accept()[0].close()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        print("ready", flush=True)
        ending.wait()
    print("done", flush=True)


if __name__ == "__main__":
    main()
