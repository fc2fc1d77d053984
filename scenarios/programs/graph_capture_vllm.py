"""Serves three loads with a real vLLM engine whose CUDA graphs are full, piecewise or off, and measures each of them.

The loads are those of sglang#23581's table: one long answer, concurrency 4 with 16 requests, 8 with 32. Tokens are
counted where they arrive; the time is that of the whole load.

With TP=2 the graphs hold all-reduces: vLLM's own, or NCCL's. Which one is in effect is read off the workers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from harness import child
from scenarios.programs.engine_args import engine_settings, prepare_environment

LOADS: Final = (("single_512", 1, 1, 512), ("c4_16", 4, 16, 128), ("c8_32", 8, 32, 128))
"""Name, concurrency, requests, output tokens of each."""
SIZES: Final = [1, 2, 4, 8]
GRAPHS: Final[dict[str, dict[str, Any]]] = {
    "full": {"mode": 0, "cudagraph_mode": "FULL", "cudagraph_capture_sizes": SIZES},
    "piecewise": {"mode": 3, "backend": "eager", "cudagraph_mode": "PIECEWISE", "cudagraph_capture_sizes": SIZES},
    "off": {"mode": 0, "cudagraph_mode": "NONE"},
}
"""Compilation settings; piecewise graphs need the model cut up by the compiler, but no kernels of it."""
TWO: Final = {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}
ALL_REDUCE: Final[dict[str, dict[str, Any]]] = {
    "none": {},
    "custom": TWO,
    "nccl": {**TWO, "disable_custom_all_reduce": True},
}
NAMES: Final = {"FULL": "full", "PIECEWISE": "piecewise", "NONE": "off"}


def start_engine(graphs: str, all_reduce: str = "none") -> Any:
    """Return an engine with these graphs, on two GPUs where an all-reduce is asked for."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments = engine_settings(
        dtype="bfloat16",
        enforce_eager=graphs == "off",
        compilation_config=GRAPHS[graphs],
        worker_extension_cls="scenarios.programs.graph_worker.GraphExtension",
        **ALL_REDUCE[all_reduce],
    )
    return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))


def joined(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what all workers say: where they differ each different answer, and the fewest graphs that one has."""
    names = ("runner", "mode", "all_reduce")
    told: dict[str, Any] = {name: " and ".join(dict.fromkeys(str(one[name]) for one in states)) for name in names}
    return told | {"captured": min(int(one["captured"]) for one in states)}


async def answer(engine: Any, name: str, tokens: int) -> tuple[int, float]:
    """Return the tokens of one answer and the seconds to the first of them."""
    from vllm import SamplingParams

    sampling = SamplingParams(max_tokens=tokens, min_tokens=tokens, temperature=0.0, ignore_eos=True)
    begin, first, count = time.monotonic(), 0.0, 0
    async for output in engine.generate("the crash cart rolls to a machine", sampling, request_id=name):
        first = first or time.monotonic() - begin
        count = len(output.outputs[0].token_ids)
    return count, first


async def serve(engine: Any, load: tuple[str, int, int, int]) -> None:
    """Serve one load and record its throughput."""
    name, concurrency, requests, tokens = load
    slots = asyncio.Semaphore(concurrency)

    async def one(number: int) -> tuple[int, float]:
        async with slots:
            return await answer(engine, f"{name}-{number}", tokens)

    begin = time.monotonic()
    answers = await asyncio.gather(*(one(number) for number in range(requests)))
    seconds = time.monotonic() - begin
    produced = sum(count for count, _ in answers)
    child.mark(
        "load",
        load=name,
        tokens=produced,
        seconds=round(seconds, 3),
        tok_s=round(produced / seconds, 1),
        ttft_ms=round(1e3 * sum(first for _, first in answers) / requests, 1),
    )


async def run(graphs: str, all_reduce: str) -> None:
    """Start, look at the graphs, serve, and end."""
    with child.phase("engine_start"):
        import vllm

        engine = start_engine(graphs, all_reduce)
        state = joined(await engine.collective_rpc("graph_state"))
    child.mark("graph_state", graphs=NAMES.get(state["mode"], state["mode"]), vllm=vllm.__version__, **state)
    with child.phase("warm_up"):
        await answer(engine, "warm-up", 32)
    for load in LOADS:
        with child.phase(load[0]):
            await serve(engine, load)
    with child.phase("stop"):
        engine.shutdown()


def main() -> None:
    """Run the cell; an engine that fails is an observation."""
    prepare_environment()
    try:
        asyncio.run(run(child.params()["graphs"], child.params().get("all_reduce", "none")))
    except Exception as error:  # noqa: BLE001 - whatever kept the engine from serving is what the cell is about
        child.observe_error("engine_failed", error)
    child.finish()


if __name__ == "__main__":
    main()
