"""Starts a vLLM engine in a Ray actor or a plain process, with the executor of verl before and after verl#6459.

The engine is real; if it does not come up, that is an observation and the program still comes to its end.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import Any, Final

from harness import child
from scenarios.programs.engine_args import engine_settings, prepare_environment

BACKEND: Final = "distributed_executor_backend"
TOKENS: Final = 64
DEFAULTS: Final = {
    "host": "ray_actor",
    "api": "AsyncLLM",
    "backend": "mp",
    "dtype": "float32",
    "mitigation": "none",
    "rocm": "detected",
    "start": "spawn",
    "device_init": "false",
    "tp": "1",
}


def apply_mitigation(arguments: Mapping[str, Any], *, is_rocm: bool, tensor_parallel_size: int) -> dict[str, Any]:
    """Return the engine arguments by the rule of verl#6459.

    An explicit choice is never overwritten; on ROCm with TP=1 the backend is omitted, so that vLLM runs the worker in
    process; otherwise ``mp`` is set, as before.
    """
    if BACKEND in arguments or (is_rocm and tensor_parallel_size == 1):
        return dict(arguments)
    return {**arguments, BACKEND: "mp"}


def engine_arguments(settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the engine arguments of a cell; ``backend=default`` leaves the choice to vLLM, or to the mitigation."""
    tp = int(settings["tp"])
    arguments = engine_settings(
        dtype=settings["dtype"],
        tensor_parallel_size=tp,
        worker_extension_cls="scenarios.programs.worker_extension.ProbeExtension",
    )
    if settings["backend"] != "default":
        arguments[BACKEND] = settings["backend"]
    if settings["mitigation"] == "omit_backend":
        is_rocm = settings["rocm"] == "assumed" or _on_rocm()
        arguments = apply_mitigation(arguments, is_rocm=is_rocm, tensor_parallel_size=tp)
    return arguments


def engine_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a cell.

    vLLM's CPU platform turns ``uni`` into ``mp`` while ``VLLM_ENABLE_V1_MULTIPROCESSING`` is 1 (vllm/platforms/cpu.py);
    so where the cell asks for the worker in process, or the mitigation omits the backend, it is 0.
    """
    omitted = settings["mitigation"] == "omit_backend" and settings["backend"] == "default"
    in_process = settings["backend"] == "uni" or (omitted and settings["rocm"] == "assumed")
    return {
        "VLLM_WORKER_MULTIPROC_METHOD": settings["start"],
        **({"VLLM_ENABLE_V1_MULTIPROCESSING": "0"} if in_process else {}),
    }


class Host:
    """Holds the engine, in an actor or in this process; every method is one step that the program records."""

    def __init__(self, settings: dict[str, str], environment: dict[str, str]) -> None:
        os.environ.update(environment)
        prepare_environment()
        self.settings = settings
        self.engine: Any = None

    def start(self) -> dict[str, Any]:
        """Bring the engine up and return what it says about its own configuration."""
        import vllm

        arguments = engine_arguments(self.settings)
        if self.settings["device_init"] == "true":
            _touch_device()
        shown = {BACKEND: arguments.get(BACKEND), "tensor_parallel_size": arguments["tensor_parallel_size"]}
        child.mark("engine_config", vllm=vllm.__version__, requested=shown, patches=self._assumptions())
        if self.settings["api"] == "LLM":
            self.engine = vllm.LLM(**arguments)
            config = self.engine.llm_engine.vllm_config
        else:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM

            self.engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
            config = self.engine.vllm_config
        return {"reported_backend": str(config.parallel_config.distributed_executor_backend), "host_pid": os.getpid()}

    def _assumptions(self) -> list[child.Json]:
        return ["mitigation takes the platform for ROCm"] if self.settings["rocm"] == "assumed" else []

    async def generate(self) -> dict[str, Any]:
        """Generate a few tokens and return how many and how fast (output tokens per second)."""
        from vllm import SamplingParams

        sampling = SamplingParams(max_tokens=TOKENS, min_tokens=TOKENS, temperature=0.0, ignore_eos=True)
        begin = time.monotonic()
        if self.settings["api"] == "LLM":
            tokens = len(self.engine.generate(["the crash cart"], sampling)[0].outputs[0].token_ids)
        else:
            tokens = 0
            async for output in self.engine.generate("the crash cart", sampling, request_id="one"):
                tokens = len(output.outputs[0].token_ids)
        seconds = time.monotonic() - begin
        return {"tokens": tokens, "seconds": round(seconds, 3), "tok_s": round(tokens / seconds, 1)}

    async def probe(self) -> list[dict[str, Any]]:
        """Call the worker extension through ``collective_rpc`` and return what each worker answers."""
        answer = self.engine.collective_rpc("probe_worker")
        return list(await answer) if asyncio.iscoroutine(answer) else list(answer)

    def stop(self) -> None:
        """Shut the engine down."""
        if self.settings["api"] == "LLM":
            self.engine.llm_engine.engine_core.shutdown()
        elif self.engine is not None:
            self.engine.shutdown()


async def run_here(settings: dict[str, str], environment: dict[str, str]) -> None:
    """Run the steps in this process."""
    host = Host(settings, environment)
    with child.phase("engine_start"):
        ready = host.start()
    child.mark("engine_ready", **ready)
    with child.phase("generate"):
        child.mark("generated", **await host.generate())
    with child.phase("collective_rpc"):
        child.mark("collective_rpc", workers=list(await host.probe()))
    with child.phase("stop"):
        host.stop()


def run_in_actor(settings: dict[str, str], environment: dict[str, str]) -> None:
    """Run the steps in a Ray actor, as verl does."""
    import ray

    from scenarios.programs.local_ray import keep_titles, leased_gpus, local_ray

    class AsyncHost(Host):
        """An actor with a coroutine method is an asyncio actor: all of its methods run on one event loop."""

        async def begin(self) -> dict[str, Any]:
            """Bring the engine up on the actor's loop."""
            keep_titles()
            return self.start()

    gpus = leased_gpus()
    with local_ray(logical_cpus=2, logical_gpus=gpus):
        actor = ray.remote(AsyncHost).options(num_cpus=1, num_gpus=gpus).remote(settings, environment)
        with child.phase("engine_start"):
            ready = ray.get(actor.begin.remote())
        child.mark("engine_ready", **ready)
        with child.phase("generate"):
            child.mark("generated", **ray.get(actor.generate.remote()))
        with child.phase("collective_rpc"):
            child.mark("collective_rpc", workers=ray.get(actor.probe.remote()))
        with child.phase("stop"):
            ray.get(actor.stop.remote())


def _on_rocm() -> bool:
    import torch

    return torch.version.hip is not None


def _touch_device() -> None:
    import torch

    if torch.cuda.is_available():
        torch.zeros(1, device="cuda")


def main() -> None:
    """Run the cell; an engine that does not come up, or dies, is an observation."""
    settings = DEFAULTS | child.params()
    environment = engine_environment(settings)
    try:
        if settings["host"] == "ray_actor":
            run_in_actor(settings, environment)
        else:
            asyncio.run(run_here(settings, environment))
    except Exception as error:  # noqa: BLE001 - whatever kept the engine from serving is what the cell is about
        child.observe_error("engine_failed", error)
    child.finish()


if __name__ == "__main__":
    main()
