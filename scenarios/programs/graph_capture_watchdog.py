"""Captures a graph on two ranks while the watchdog of a real NCCL process group queries the events of earlier work.

A hundred all-reduces are put on the stream right before the capture, so that the watchdog's thread has work to ask for
while it lasts; the capture holds an all-reduce itself and takes longer than several of the watchdog's rounds.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Final

from harness import child
from scenarios.programs.two_ranks import RANKS, free_port, kill_all, start_ranks, wait_all

MODULE: Final = "scenarios.programs.graph_capture_watchdog"
PENDING: Final = 100
CAPTURE_S: Final = 0.5
"""How long the capture is held open, in seconds; the watchdog asks every 100 ms."""
LIMIT_S: Final = 60.0


def run_rank(rank: int, port: int) -> None:
    """Run one rank."""
    import torch
    import torch.distributed as dist

    torch.cuda.set_device(rank)
    store = dist.TCPStore("127.0.0.1", port, RANKS, is_master=rank == 0, timeout=timedelta(seconds=30))
    dist.init_process_group("nccl", store=store, rank=rank, world_size=RANKS, timeout=timedelta(seconds=40))
    data, source = torch.ones(1 << 20, device="cuda"), torch.zeros(1 << 20, device="cuda")
    dist.all_reduce(data)
    torch.cuda.synchronize()
    if rank == 0:
        child.mark("stack", torch=torch.__version__, cuda=torch.version.cuda, hip=torch.version.hip)
    graph = torch.cuda.CUDAGraph()
    try:
        for _ in range(PENDING):
            data.fill_(1.0)
            dist.all_reduce(data)
        with torch.cuda.graph(graph, capture_error_mode=child.params()["mode"]):
            data.copy_(source)
            time.sleep(CAPTURE_S)
            dist.all_reduce(data)
    except Exception as error:  # noqa: BLE001 - releases of torch raise different classes
        child.observe_error("capture_failed", error)
        return
    child.mark("captured", rank=rank)
    for value in (1.0, 3.0):
        source.fill_(value * (rank + 1))
        graph.replay()
        torch.cuda.synchronize()
        got, wanted = float(data[0]), value * sum(range(1, RANKS + 1))
        child.mark("replayed", right=got == wanted, got=got, wanted=wanted, rank=rank)
    del graph  # NCCL waits for graphs that hold its operations when the group is destroyed
    torch.cuda.synchronize()
    dist.destroy_process_group()


def main() -> None:
    """Run both ranks, or one of them."""
    if len(sys.argv) > 1:
        run_rank(int(sys.argv[1]), int(sys.argv[2]))
        return
    ranks = start_ranks(MODULE, free_port())
    try:
        with child.phase("ranks"):
            codes = wait_all(ranks, LIMIT_S)
    finally:
        kill_all(ranks)
    child.mark("ranks_ended", codes=list(codes))
    child.finish()


if __name__ == "__main__":
    main()
