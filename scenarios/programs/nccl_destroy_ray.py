"""A real vLLM engine with TP=2 in a Ray actor that is killed; who ends its processes is up to Ray's settings.

By default Ray kills the actor's own children at once: the EngineCore, not its workers, which then end their
communicators by themselves, as in `nccl_destroy_vllm`. The program only kills the actor, by ``ray.kill``, and looks on.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any, Final, cast

import psutil

from harness import child
from scenarios.programs.engine_args import prepare_environment
from scenarios.programs.local_ray import keep_titles, local_ray
from scenarios.programs.nccl_destroy_vllm import DEFAULTS, TOKENS, WORKER, start_engine, titled, told, watch

RANKS: Final = 2
SETTINGS: Final = ("RAY_kill_child_processes_on_worker_exit", "RAY_process_group_cleanup_enabled")
GONE_S: Final = 10.0
"""How long Ray may take to end the killed actor's own process, in seconds."""


class Holder:
    """The actor: an engine and its process."""

    def __init__(self, *, graphs: bool) -> None:
        import os

        keep_titles()
        self._engine, self._version = start_engine(graphs=graphs)
        self._pid = os.getpid()

    def used(self) -> dict[str, Any]:
        """Answer one prompt, and say which release this is, what its workers captured, and which process holds it."""
        from vllm import SamplingParams

        states: list[Any] = self._engine.collective_rpc("graph_state")
        sampling = SamplingParams(max_tokens=TOKENS, ignore_eos=True)
        self._engine.generate(["the crash cart"], sampling, use_tqdm=False)
        return {"vllm": self._version, "pid": self._pid, **told(states)}


def kill(actor: Any, pid: int) -> None:
    """Kill the actor, and record how long its own process was there after that."""
    import ray

    process = psutil.Process(pid)
    begin = time.monotonic()
    ray.kill(actor)
    _, left = psutil.wait_procs([process], timeout=GONE_S)
    if not left:
        child.mark("actor_gone", pid=pid, seconds=round(time.monotonic() - begin, 2))


def cleanup() -> dict[str, str] | None:
    """Return the variables by which the raylet knows what to do about what a dead worker has started."""
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if one.name() == "raylet":
                return {name: value for name, value in one.environ().items() if name.startswith(SETTINGS)}
    return None


def main() -> None:
    """Start, use, kill the actor, and look on."""
    import ray

    prepare_environment()
    settings = DEFAULTS | child.params()
    with local_ray(logical_cpus=RANKS, logical_gpus=RANKS):
        actor = ray.remote(Holder).options(num_cpus=1, num_gpus=RANKS).remote(graphs=settings["graphs"] != "0")
        try:
            with child.phase("engine_start"):
                found: dict[str, Any] = ray.get(actor.used.remote())
        except Exception as error:  # noqa: BLE001 - an engine that does not come up is an observation
            child.observe_error("engine_failed", error)
            child.finish()
            return
        said = {name: value for name, value in found.items() if name != "pid"}
        child.mark("engine", cleanup=cast("child.Json", cleanup()), **said)
        family = [*titled("VLLM::EngineCore"), *titled(WORKER)]
        child.mark("family", pids=[process.pid for process in family])
        kill(actor, int(found["pid"]))
        watch(family)
    child.finish()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
