"""init_process_group waits for a rank that died while importing: bites launchers that do not watch their ranks.

Reference: the 30 minutes of pytorch's default rendezvous timeout.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from datetime import timedelta

from harness import child


def rank_main(rank: int, port: int) -> None:
    if rank == 1:
        sys.exit(1)
    import torch.distributed as dist

    with child.phase("rendezvous"):
        dist.init_process_group(
            "gloo",
            init_method=f"tcp://127.0.0.1:{port}",
            rank=rank,
            world_size=2,
            timeout=timedelta(minutes=30),
        )
    print("passed", rank, flush=True)


def main() -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=rank_main, args=(rank, port)) for rank in range(2)]
    for rank in ranks:
        rank.start()
        print(f"suspect pid {rank.pid}", flush=True)
    for rank in ranks:
        rank.join()


if __name__ == "__main__":
    main()
