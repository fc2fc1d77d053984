"""Streams a long answer from a real engine while the supervisor stops one of its workers for a while, and looks on.

The engine lives in this process (AsyncLLM), its EngineCore and its workers in their own. With two workers on the CPU,
vLLM needs to be told not to bind threads to cores.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from harness import child
from scenarios.programs.engine_args import engine_settings, prepare_environment

LONG: Final = 1900
"""Tokens of the answer."""
BEGUN: Final = 5
"""So many tokens have come when the worker is stopped."""
SETTLE_S: Final = 1.0
WINDOW_S: Final = 12.0
"""How long the answer is watched after the stop, in seconds, unless it ends before."""
REST_S: Final = 120.0
"""How long the answer may take once the worker goes on, in seconds: a machine may be busy."""
WORDS: Final = ("No available shared memory broadcast block", "RPC call to")
DEFAULTS: Final = {"tp": "1"}


@dataclass(slots=True)
class Answer:
    """What has come so far."""

    tokens: int = 0
    finished: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the first tokens, and by an end before them: who waits for an answer must not outwait its reader."""


async def read(outputs: AsyncIterator[Any], answer: Answer) -> None:
    """Read the answer to its end."""
    try:
        async for output in outputs:
            answer.tokens = len(output.outputs[0].token_ids)
            if answer.tokens >= BEGUN:
                answer.begun.set()
        answer.finished = True
    finally:
        answer.begun.set()


async def watch(outputs: AsyncIterator[Any]) -> None:
    """Begin the answer, let the worker be stopped, and record what has come when the time is over, and in the end."""
    answer = Answer()
    task = asyncio.create_task(read(outputs, answer))
    with child.phase("decode"):
        await answer.begun.wait()
        if answer.tokens >= BEGUN:
            child.mark("fault_now", tokens=answer.tokens)
            await asyncio.wait([task], timeout=SETTLE_S)
            settled = answer.tokens
            await asyncio.wait([task], timeout=WINDOW_S - SETTLE_S)
            child.mark("window_over", settled=settled, tokens=answer.tokens, ended=task.done())
        await asyncio.wait([task], timeout=REST_S)
    if not task.done():
        task.cancel()
    elif (error := task.exception()) is not None:
        child.observe_error("answer_failed", error)
    said = [word for word in WORDS if any(word in path.read_text(errors="replace") for path in _outputs())]
    child.mark("answer", tokens=answer.tokens, finished=answer.finished, said=[*said])


def _outputs() -> list[Path]:
    """Return this program's own output, which the engine's processes share."""
    return [path for name in ("stdout", "stderr") if (path := Path(name)).exists()]


async def run(tp: int) -> None:
    """Bring the engine up and watch one answer."""
    from vllm import SamplingParams, envs
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    with child.phase("engine_start"):
        engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**engine_settings(tensor_parallel_size=tp)))
    child.mark("engine_ready", execute_model_timeout_s=envs.VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS)
    try:
        sampling = SamplingParams(max_tokens=LONG, temperature=0.0, ignore_eos=True)
        await watch(engine.generate("the crash cart", sampling, request_id="one"))
    finally:
        with child.phase("stop"):
            engine.shutdown()


def main() -> None:
    """Run the cell."""
    settings = DEFAULTS | child.params()
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    prepare_environment(OMP_NUM_THREADS="1")
    asyncio.run(run(int(settings["tp"])))
    child.finish()


if __name__ == "__main__":
    main()
