"""A real vLLM engine with TP=2 loses its EngineCore; its workers then end their communicators by themselves.

Nobody is left to end the workers for them (vllm#39846): each notices that its pipe is closed, and shuts down. A worker
that hangs there keeps its GPU memory. The program only looks on.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import psutil

from harness import child
from scenarios.programs import gpu_memory
from scenarios.programs.engine_args import engine_settings, prepare_environment

OBSERVE_S: Final = 25.0
"""How long the workers may take to be gone; 2.5 to 5 s were seen with vLLM 0.26."""
WORKER: Final = "VLLM::Worker"
TOKENS: Final = 32
DEFAULTS: Final = {"graphs": "1"}


def titled(title: str) -> list[psutil.Process]:
    """Return the descendants whose title begins so."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if " ".join(process.cmdline()).startswith(title):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that are there and no zombies."""
    found = []
    for process in processes:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def start_engine(*, graphs: bool) -> Any:
    """Return an engine on two GPUs, with CUDA graphs of its collectives or without."""
    import vllm

    sizes = {"mode": 0, "cudagraph_mode": "FULL", "cudagraph_capture_sizes": [1, 2, 4]}
    arguments = engine_settings(
        dtype="bfloat16",
        tensor_parallel_size=2,
        distributed_executor_backend="mp",
        disable_custom_all_reduce=True,  # so that it is NCCL's operations that the graphs hold
        enforce_eager=not graphs,
        compilation_config=sizes if graphs else {"mode": 0, "cudagraph_mode": "NONE"},
        worker_extension_cls="scenarios.programs.graph_worker.GraphExtension",
    )
    return vllm.LLM(**arguments), vllm.__version__


def told(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the workers of an engine say of themselves (`GraphExtension`), ready for a mark."""
    captured = [state["captured"] for state in states]
    return {"captured": captured, "runner": states[0]["runner"], "all_reduce": states[0]["all_reduce"]}


def watch(engine_workers: list[psutil.Process]) -> None:
    """Record who is left, what they hold, and when they were gone."""
    begin = time.monotonic()
    left = alive(engine_workers)
    while left and time.monotonic() - begin < OBSERVE_S:
        time.sleep(0.1)
        left = alive(left)
    memory = gpu_memory.held() or {}
    seconds = round(time.monotonic() - begin, 2)
    child.mark("workers", left=[process.pid for process in left], seconds=seconds)
    for process in left:
        title = ""
        with suppress(psutil.NoSuchProcess):
            title = " ".join(process.cmdline())[:60].strip()  # setproctitle pads it
        child.mark("survivor", pid=process.pid, title=title, mib=memory.get(process.pid), alive_s=seconds)
    child.mark("memory_back", seconds=gpu_memory.wait_released([one.pid for one in engine_workers], 5.0))


def main() -> None:
    """Start, use, lose the EngineCore, and look on."""
    prepare_environment()
    settings = DEFAULTS | child.params()
    try:
        with child.phase("engine_start"):
            engine, version = start_engine(graphs=settings["graphs"] != "0")
            states: list[Any] = engine.collective_rpc("graph_state")
        child.mark("engine", vllm=version, **told(states))
        with child.phase("generate"):
            from vllm import SamplingParams

            engine.generate(["the crash cart"], SamplingParams(max_tokens=TOKENS, ignore_eos=True), use_tqdm=False)
    except Exception as error:  # noqa: BLE001 - an engine that does not come up is an observation
        child.observe_error("engine_failed", error)
        child.finish()
        return
    family, core = titled(WORKER), titled("VLLM::EngineCore")
    child.mark("fault_now", workers=[process.pid for process in family])
    psutil.wait_procs(core, timeout=10)
    watch(family)
    child.finish()
    sys.stdout.flush()
    os._exit(0)  # the engine object would wait for an EngineCore that is dead


if __name__ == "__main__":
    main()
