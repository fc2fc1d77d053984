"""A thread dies of an exception between acquire and release: bites code that does not use `with` for its locks."""

from __future__ import annotations

import contextlib
import os
import threading

lock = threading.Lock()


def update() -> None:
    with contextlib.suppress(ZeroDivisionError):
        lock.acquire()
        print(1 // len(threading.current_thread().name[:0]))
        lock.release()


def main() -> None:
    print(f"suspect pid {os.getpid()}", flush=True)
    worker = threading.Thread(target=update)
    worker.start()
    worker.join()
    with lock:
        print("passed", flush=True)


if __name__ == "__main__":
    main()
