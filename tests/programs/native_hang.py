"""Declares a phase and hangs in a call of a native library in it, while another thread of its goes on polling.

As a rank that ends its communicator: the library waits for what never comes, and its helper threads have timers.
"""

from __future__ import annotations

import ctypes
import threading
import time

from harness import child


def beat() -> None:
    while True:
        time.sleep(0.5)


def main() -> None:
    threading.Thread(target=beat, daemon=True).start()
    semaphore = ctypes.create_string_buffer(64)
    library = ctypes.CDLL(None)
    library.sem_init(semaphore, 0, 0)
    with child.phase("destroy"):
        library.sem_wait(semaphore)


if __name__ == "__main__":
    main()
