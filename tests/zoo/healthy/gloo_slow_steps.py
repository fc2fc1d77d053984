"""Training of two gloo ranks with a step every three seconds: one rank is always early and waits for the other."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time


def rank_main(rank: int, store: str, seconds: float) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for _ in range(int(seconds / 3)):
        if rank == 1:
            time.sleep(3)  # its input is slow
        gradient = torch.ones(1000)
        dist.all_reduce(gradient)
    dist.destroy_process_group()


def main() -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (f"{folder}/store", float(sys.argv[1]))
        ranks = [context.Process(target=rank_main, args=(rank, *arguments)) for rank in range(2)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
    print("done", flush=True)


if __name__ == "__main__":
    main()
