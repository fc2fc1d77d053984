"""Picks a port for a rendezvous with the stack's own function, lets somebody take it, and then meets there.

Between the two lies, in a real engine, the start of a worker process: seconds. Here it is as long as it takes the other
one to bind.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any, Final

from harness import child

HOST: Final = "127.0.0.1"
MEET_S: Final = 20.0
BIND_S: Final = 10.0
STRANGER: Final = """
import socket, sys
taken = socket.socket()
try:
    taken.bind(("127.0.0.1", int(sys.argv[1])))
    taken.listen()
    print("taken", flush=True)
except OSError as error:
    print(error.strerror, flush=True)
sys.stdin.read()
"""
DEFAULTS: Final = {"picker": "vllm", "rendezvous": "tcp", "taker": "stranger"}


def pick(picker: str) -> int:
    """Return a port that was free, as the stack finds it."""
    if picker == "verl":
        import inspect

        from verl.single_controller.base.worker import WorkerHelper

        helper: Any = WorkerHelper._get_free_port  # noqa: SLF001 - what its workers call
        takes_self = "self" in inspect.signature(helper).parameters
        return int(helper(WorkerHelper()) if takes_self else helper())
    from vllm.utils.network_utils import get_open_port

    return int(get_open_port())


def prepare(settings: dict[str, str]) -> tuple[str, int, Any]:
    """Return the address of the rendezvous, the port that a stranger may want, and what must be kept until then."""
    rendezvous = settings["rendezvous"]
    if rendezvous == "bound":
        from torch.distributed import TCPStore

        store = TCPStore(host_name=HOST, port=0, world_size=1, is_master=True, wait_for_workers=False)
        return f"tcp://{HOST}:{store.port}", store.port, store
    port = pick(settings["picker"])
    if rendezvous == "default":
        from vllm.utils import network_utils

        rendezvous = "tcp" if network_utils.aiter_requires_tcp_store() else "file"
    if rendezvous == "file":
        from vllm.utils.network_utils import get_file_store_init_method

        return get_file_store_init_method(), port, None
    return f"tcp://{HOST}:{port}", port, None


def meet(address: str, store: Any) -> None:
    """Meet in a group of one, and compute something in it."""
    import torch
    from torch import distributed

    where = {"store": store} if store is not None else {"init_method": address}
    distributed.init_process_group("gloo", rank=0, world_size=1, timeout=timedelta(seconds=MEET_S), **where)
    ones = torch.ones(2)
    distributed.all_reduce(ones)
    distributed.destroy_process_group()
    child.mark("met", total=float(ones.sum()))


def main() -> None:
    """Pick, be overtaken, meet."""
    settings = DEFAULTS | child.params()
    with child.phase("pick"):
        address, port, store = prepare(settings)
    child.mark("picked", scheme=address.partition(":")[0], bound=store is not None, port=port)
    stranger = None
    if settings["taker"] == "stranger":
        with child.phase("take"):
            stranger = subprocess.Popen(
                [sys.executable, "-S", "-c", STRANGER, str(port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            child.mark("stranger", said=stranger.stdout.readline().strip() if stranger.stdout else "")
    try:
        with child.phase("meet"):
            meet(address, store)
    except Exception as error:  # noqa: BLE001 - whatever keeps them from meeting is what the cell is about
        child.observe_error("not_met", error)
    if stranger is not None:
        stranger.communicate(timeout=BIND_S)
    child.finish()


if __name__ == "__main__":
    main()
