"""Two ranks with one communicator; rank 0 ends it in the way of the cell while rank 1 does what the cell says.

The program looks on from outside: whether rank 0 comes to its end, and, where it does not, what memory it holds on the
GPU, and when that comes back once its process is killed. That it hangs is for the supervisor to find out by itself.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from harness import child
from scenarios.programs import gpu_memory
from scenarios.programs.two_ranks import RANKS, free_port, kill_all, start_ranks

MODULE: Final = "scenarios.programs.nccl_destroy"
READY_S: Final = 90.0
OBSERVE_S: Final = 20.0
"""How long rank 0 may take from the begin of its destroy to the end of its process; it was 0.5 s where it did not hang.

Long enough for a hang to be noticed (8 s without movement) and for its stacks to be taken.
"""
JOIN_S: Final = 5.0
"""How long vLLM waits for its thread."""
RELEASE_S: Final = 20.0
SIZE: Final = 1 << 20
STEP_S: Final = 0.02
SETTLE_S: Final = 0.5
DEFAULTS: Final = {"destroy": "destroy_main", "peer": "destroys", "graphs": "0", "collective": "none", "layer": "raw"}


def wait_for(path: Path, seconds: float) -> None:
    """Wait until another process has made a file."""
    until = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > until:
            msg = f"no {path.name} within {seconds:g} s"
            raise TimeoutError(msg)
        time.sleep(STEP_S)


def communicator(layer: str, rank: int, port: int) -> Any:
    """Return a communicator of the layer."""
    from scenarios.programs.nccl_library import RawNccl, VllmNccl

    return VllmNccl(rank, RANKS, port) if layer == "pynccl" else RawNccl(rank, RANKS, child.scratch(), READY_S)


def capture(comm: Any, tensor: Any, count: int) -> list[Any]:
    """Return so many graphs that hold an all-reduce each, all of them replayed once."""
    import torch

    graphs = []
    for _ in range(count):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            comm.all_reduce(tensor)
        graph.replay()
        torch.cuda.synchronize()
        graphs.append(graph)
    return graphs


def end_communicator(comm: Any, how: str) -> threading.Thread | None:
    """End it in one of the ways; returns the thread that does it, if one does."""
    if how == "abort_thread":
        thread = threading.Thread(target=comm.abort, daemon=True, name="abort")
        thread.start()
        thread.join(JOIN_S)
        return thread
    calls = {"destroy_main": comm.destroy, "abort_main": comm.abort, "shipped": comm.shipped}
    if how in calls:
        calls[how]()
    return None


def act_as_peer(comm: Any, settings: dict[str, str], graphs: list[Any]) -> None:
    """Do what the cell says of rank 1; ``alive`` and ``SIGSTOP`` are ended by the parent."""
    peer = settings["peer"]
    (child.scratch() / "peer.acts").touch()
    if peer == "destroys":
        end_communicator(comm, settings["destroy"])
        graphs.clear()
    elif peer == "exits":
        os._exit(0)
    elif peer in {"SIGKILL", "SIGSTOP"}:
        os.kill(os.getpid(), signal.Signals[peer])
    elif peer == "alive":
        time.sleep(READY_S)


def act_as_survivor(comm: Any, settings: dict[str, str], tensor: Any, graphs: list[Any]) -> None:
    """End the communicator on rank 0, and say when that began and when it was over."""
    wait_for(child.scratch() / "peer.acts", READY_S)
    time.sleep(SETTLE_S if settings["peer"] != "destroys" else 0.0)
    if settings["collective"] == "pending":
        comm.all_reduce(tensor)
        time.sleep(SETTLE_S)
    child.mark("destroying", destroy=settings["destroy"])
    (child.scratch() / "destroying").touch()
    begin = time.monotonic()
    with child.phase("destroy"):
        thread = end_communicator(comm, settings["destroy"])
    seconds = round(time.monotonic() - begin, 2)
    child.mark("destroyed", seconds=seconds, thread_left=thread is not None and thread.is_alive())
    graphs.clear()
    if thread is not None:
        thread.join(JOIN_S)
        child.mark("thread", ended=not thread.is_alive(), seconds=round(time.monotonic() - begin, 2))


def run_rank(rank: int, port: int) -> None:
    """Run one rank."""
    import torch

    settings = DEFAULTS | child.params()
    torch.cuda.set_device(rank)
    with child.phase(f"init_{rank}"):
        comm = communicator(settings["layer"], rank, port)
        tensor = torch.ones(SIZE, device="cuda")
        comm.all_reduce(tensor)
        torch.cuda.synchronize()
        graphs = capture(comm, tensor, int(settings["graphs"]))
    version = ".".join(str(part) for part in torch.cuda.nccl.version())
    child.mark("rank", rank=rank, sum=float(tensor[0]), graphs=len(graphs), torch=torch.__version__, nccl=version)
    if rank == 0:
        act_as_survivor(comm, settings, tensor, graphs)
    else:
        act_as_peer(comm, settings, graphs)


def main() -> None:
    """Start the ranks and look at rank 0 from outside, or be one of them."""
    if len(sys.argv) > 1:
        run_rank(int(sys.argv[1]), int(sys.argv[2]))
        return
    ranks = start_ranks(MODULE, free_port())
    try:
        until = time.monotonic() + READY_S
        while not (child.scratch() / "destroying").exists() and ranks[0].poll() is None and time.monotonic() < until:
            time.sleep(STEP_S)
        begin = time.monotonic()
        while ranks[0].poll() is None and time.monotonic() - begin < OBSERVE_S:
            time.sleep(STEP_S)
        if ranks[0].poll() is None:
            memory = gpu_memory.held()
            child.mark("survivor", pid=ranks[0].pid, mib=(memory or {}).get(ranks[0].pid), alive_s=OBSERVE_S)
        else:
            child.mark("rank_0_ended", code=ranks[0].returncode, seconds=round(time.monotonic() - begin, 2))
    finally:
        kill_all(ranks)
    child.mark("memory_back", seconds=gpu_memory.wait_released([rank.pid for rank in ranks], RELEASE_S))
    child.finish()


if __name__ == "__main__":
    main()
