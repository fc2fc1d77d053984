"""A process is killed while it holds a multiprocessing lock, which nobody takes back: bites after the OOM killer."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import Any


def victim(lock: Any) -> None:
    with lock:
        os.kill(os.getpid(), signal.SIGKILL)


def survivor(lock: Any) -> None:
    time.sleep(0.5)
    with lock:
        print("passed", flush=True)


def main() -> None:
    context = multiprocessing.get_context("fork")
    lock = context.Lock()
    workers = [context.Process(target=target, args=(lock,)) for target in (victim, survivor, survivor)]
    for worker in workers:
        worker.start()
    for worker in workers[1:]:
        print(f"suspect pid {worker.pid}", flush=True)
    print(f"suspect pid {workers[0].pid}\nsuspect pid {os.getpid()}", flush=True)
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
