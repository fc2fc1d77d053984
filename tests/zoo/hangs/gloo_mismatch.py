"""One rank enters all_reduce, the other broadcast, and each waits for the other: bites rank-dependent branches.

Reference: "mismatched collectives" in the documentation of torch.distributed.monitored_barrier and its debug level.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from datetime import timedelta


def rank_main(rank: int, store: str) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(minutes=30)
    )
    loss = torch.ones(1 << 18)
    dist.all_reduce(loss)
    if rank == 0:
        dist.all_reduce(loss)
    else:
        dist.broadcast(loss, src=0)
        dist.broadcast(loss, src=0)
    print("passed", rank, flush=True)


def main() -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ranks = [context.Process(target=rank_main, args=(rank, f"{folder}/store")) for rank in range(2)]
        for rank in ranks:
            rank.start()
            print(f"suspect pid {rank.pid}", flush=True)
        for rank in ranks:
            rank.join()


if __name__ == "__main__":
    main()
