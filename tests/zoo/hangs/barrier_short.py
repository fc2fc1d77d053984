"""A barrier for three is reached by two, since the third left early: bites loops with uneven shares of work."""

from __future__ import annotations

import os
import threading

barrier = threading.Barrier(3)


def step(batches: int) -> None:
    for _ in range(batches):
        barrier.wait()


def main() -> None:
    print(f"suspect pid {os.getpid()}", flush=True)
    workers = [threading.Thread(target=step, args=(batches,)) for batches in (5, 5, 4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print("passed", flush=True)


if __name__ == "__main__":
    main()
