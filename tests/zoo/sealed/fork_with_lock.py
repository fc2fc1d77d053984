"""Forks while another thread holds a lock, which nobody in the child will release: bites fork after threads.

Reference: the DeprecationWarning of os.fork in multi-threaded processes, since Python 3.12.
"""

from __future__ import annotations

import os
import threading
import time

registry = threading.Lock()


def refresh() -> None:
    with registry:
        time.sleep(1)


def main() -> None:
    threading.Thread(target=refresh).start()
    time.sleep(0.2)
    child = os.fork()
    if child == 0:
        with registry:
            print("passed", flush=True)
        os._exit(0)
    print(f"suspect pid {child}\nsuspect pid {os.getpid()}", flush=True)
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
