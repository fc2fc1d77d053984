"""All ranks but one enter all_reduce; that one skipped the step and waits elsewhere: bites early exits on bad batches.

Reference: the uneven inputs that torch.distributed.algorithms.Join exists for.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
from datetime import timedelta

from harness import child


def rank_main(rank: int, store: str) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(minutes=30)
    )
    loss = torch.ones(16)
    dist.all_reduce(loss)
    if rank == 1:
        threading.Event().wait()  # for more data
    with child.phase("step"):
        dist.all_reduce(loss)
    print("passed", rank, flush=True)


def main() -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ranks = [context.Process(target=rank_main, args=(rank, f"{folder}/store")) for rank in range(2)]
        for rank in ranks:
            rank.start()
        print(f"suspect pid {ranks[1].pid}", flush=True)
        for rank in ranks:
            rank.join()


if __name__ == "__main__":
    main()
