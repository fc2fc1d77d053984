"""Joins a process before taking its big result off the queue: the "joining processes that use queues" pitfall."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any


def produce(results: Any) -> None:
    results.put(b"x" * 4_000_000)


def main() -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    worker = context.Process(target=produce, args=(results,))
    worker.start()
    print(f"suspect pid {os.getpid()}\nsuspect pid {worker.pid}", flush=True)
    worker.join()
    results.get()
    print("passed", flush=True)


if __name__ == "__main__":
    main()
