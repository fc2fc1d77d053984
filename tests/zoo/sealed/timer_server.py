"""A server with a timer thread that does next to nothing every two seconds: idle with a pulse."""

from __future__ import annotations

import socket
import threading
import time

state = {"ticks": 0}


def tick() -> None:
    while True:
        time.sleep(2)
        state["ticks"] += 1


def main() -> None:
    threading.Thread(target=tick, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print("ready", flush=True)
        while True:
            listener.accept()[0].close()


if __name__ == "__main__":
    main()
