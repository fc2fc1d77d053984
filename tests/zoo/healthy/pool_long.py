"""multiprocessing.Pool.map with tasks of half a minute: the parent's threads wait on locks and pipes meanwhile."""

from __future__ import annotations

import multiprocessing
import sys
import time


def task(seconds: float) -> int:
    end = time.process_time() + seconds
    rounds = 0
    while time.process_time() < end:
        rounds += sum(range(1000)) > 0
    return rounds


def main() -> None:
    seconds = float(sys.argv[1]) / 4
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print("done", sum(pool.map(task, [seconds] * 4, chunksize=1)) > 0, flush=True)


if __name__ == "__main__":
    main()
