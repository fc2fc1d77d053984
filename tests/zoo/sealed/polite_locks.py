"""Two processes each hold one lock, try the other, let go and try again, for ever: bites retry loops without jitter."""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import Any

from harness import child

PAUSE_S = 0.02


def polite(first: Any, second: Any, rendezvous: Any) -> None:
    with child.phase("exchange"):
        while True:
            with first:
                rendezvous.wait()  # both hold one
                got = second.acquire(block=False)
                rendezvous.wait()  # both have tried
                if got:
                    second.release()
                    break
            time.sleep(PAUSE_S)
    print("passed", flush=True)


def main() -> None:
    context = multiprocessing.get_context("fork")
    left, right, rendezvous = context.Lock(), context.Lock(), context.Barrier(2)
    workers = [
        context.Process(target=polite, args=(left, right, rendezvous)),
        context.Process(target=polite, args=(right, left, rendezvous)),
    ]
    for worker in workers:
        worker.start()
        print(f"suspect pid {worker.pid}", flush=True)
    print(f"suspect pid {os.getpid()}", flush=True)
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
