"""A task waits for a task that only its own worker could run: bites pools that are used by their own jobs."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(max_workers=1)


def inner() -> int:
    return 7


def outer() -> int:
    return pool.submit(inner).result()


def main() -> None:
    print(f"suspect pid {os.getpid()}", flush=True)
    print("passed", pool.submit(outer).result(), flush=True)


if __name__ == "__main__":
    main()
