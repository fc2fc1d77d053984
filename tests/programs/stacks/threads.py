"""Four threads that wait in four ways, and one that computes: recorded for the parsers."""

from __future__ import annotations

import os
import queue
import threading
import time

lock = threading.Lock()


def holder() -> None:
    with lock:
        time.sleep(600)


def waiter() -> None:
    with lock:
        pass


def consumer() -> None:
    queue.Queue[int]().get()


def spinner() -> None:
    deadline = time.monotonic() + 600
    total = 0
    while time.monotonic() < deadline:
        total += sum(range(1000))


def main() -> None:
    print(os.getpid(), flush=True)
    for target in (holder, waiter, consumer, spinner):
        threading.Thread(target=target, name=target.__name__, daemon=True).start()
    time.sleep(600)


if __name__ == "__main__":
    main()
