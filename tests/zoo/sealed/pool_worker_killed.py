"""A worker of multiprocessing.Pool is killed with its task, and the result never comes: bites after the OOM killer.

Reference: bpo-22393, "multiprocessing.Pool shouldn't hang forever if a worker process dies unexpectedly".
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time


def task(number: int) -> int:
    if number == 2:
        time.sleep(0.3)
        print(f"suspect pid {os.getpid()}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def main() -> None:
    print(f"suspect pid {os.getpid()}", flush=True)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print("passed", pool.map(task, range(4), chunksize=1), flush=True)


if __name__ == "__main__":
    main()
