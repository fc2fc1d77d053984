"""A signal handler takes the lock that the interrupted code holds: bites handlers that log, count or flush."""

from __future__ import annotations

import os
import signal
import threading

lock = threading.Lock()


def report(*_: object) -> None:
    with lock:
        print("report", flush=True)


def main() -> None:
    signal.signal(signal.SIGALRM, report)
    print(f"suspect pid {os.getpid()}", flush=True)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with lock:
        sum(range(60_000_000))
        print("interrupted", flush=True)  # back in Python code: the handler has run before this
    print("passed", flush=True)


if __name__ == "__main__":
    main()
