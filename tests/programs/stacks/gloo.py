"""Three ranks of a gloo group in an all_reduce; rank 2 never joins it.

Usage: ``python gloo.py RENDEZVOUS_FILE``; the ranks are children whose pids are printed.
"""

from __future__ import annotations

import datetime as dt
import multiprocessing
import os
import sys
import time


def prepare_batch() -> None:
    time.sleep(600)


def train(rank: int, world: int, store: str) -> None:
    import torch
    import torch.distributed as dist

    limit = dt.timedelta(seconds=600)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=limit)
    print(rank, os.getpid(), flush=True)
    if rank == 2:
        prepare_batch()
    dist.all_reduce(torch.ones(8))


def main() -> None:
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=train, args=(rank, 3, sys.argv[1]), daemon=True) for rank in range(3)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()


if __name__ == "__main__":
    main()
