"""Two threads take two locks in opposite order: bites whoever adds a second lock to a class that had one."""

from __future__ import annotations

import os
import threading
import time

accounts = threading.Lock()
journal = threading.Lock()


def transfer(first: threading.Lock, second: threading.Lock) -> None:
    with first:
        time.sleep(0.3)
        with second:
            print("passed", flush=True)


def main() -> None:
    print(f"suspect pid {os.getpid()}", flush=True)
    other = threading.Thread(target=transfer, args=(journal, accounts), name="audit")
    other.start()
    transfer(accounts, journal)
    other.join()


if __name__ == "__main__":
    main()
