"""A tree of 64 processes as a job has them: Python with threads, native threads, shells, and a local Ray with daemons.

Argument: the folder of the Ray instance, or ``-`` for none. Prints ``ready`` and lives on until it is ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

PROCESSES = 64
SHELLS = 14
LIFE_S = 600


def deep(depth: int) -> None:
    """Go down some frames, then sleep."""
    if depth:
        deep(depth - 1)
    else:
        time.sleep(LIFE_S)


def worker(number: int) -> None:
    """Wait in one of four places, with two threads of Python and, with numpy there, those of its BLAS."""
    if number % 4 == 0:
        import numpy as np

        np.ones((300, 300)) @ np.ones((300, 300))
    for _ in range(2):
        threading.Thread(target=deep, args=(20,), daemon=True).start()
    deep(5 + 5 * (number % 4))


def count() -> int:
    """Return how many descendants there are."""
    out = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(pid): int(ppid) for pid, ppid in (line.split() for line in out.splitlines())}
    found = {os.getpid()}
    while more := {pid for pid, ppid in parents.items() if ppid in found} - found:
        found |= more
    return len(found) - 1  # without ps


def main() -> None:
    """Start Ray, the shells, then as many Python processes as are missing."""
    if sys.argv[1] != "-":
        import ray

        ray.init(
            address="local", num_cpus=2, num_gpus=0, include_dashboard=False, _temp_dir=sys.argv[1],
            object_store_memory=80 << 20,
        )  # fmt: skip
        time.sleep(3)
    for _ in range(SHELLS // 2):
        subprocess.Popen(["sh", "-c", f"sleep {LIFE_S}; true"])
    for number in range(PROCESSES - count() + 1):
        if os.fork() == 0:
            worker(number)
    time.sleep(2)
    print("ready", flush=True)
    deep(3)


if __name__ == "__main__":
    main()
