"""Two data-parallel ranks of a mixture-of-experts model, of which one or both are asked to generate.

``offline``: two engines that know of each other by ``VLLM_DP_*`` alone, one in a process each, as trainers start them.
``coordinator``: one vLLM server with ``--data-parallel-size 2``. ``ray``: two Ray actors with an engine of their own
each, which know nothing of each other (NeMo-RL#1495). Everything is real. On the CPU the two ranks of ``offline`` are
forked from a program that has imported vLLM, since importing it is what takes the time on a small machine; on GPUs each
is a new process, since one that was forked cannot use CUDA if anything in its parent has initialised it.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import socket
import time
import traceback
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from harness import child
from scenarios.programs.engine_args import engine_settings, prepare_environment
from scenarios.programs.tiny_model import tiny_model

RANKS: Final = 2
PROMPTS: Final = 4
STOP_S: Final = 15.0
"""How long both ranks may take to end, in seconds; one whose engine failed half-built waits for its engine for ever."""
TOKENS: Final = 32
PROMPT: Final = "the crash cart rolls to"
WORDS: Final = ("NotImplementedError", "EngineDeadError", "stats_update_address is not None")
EXTENSIONS: Final = {
    "nothing": "worker_extension.ProbeExtension",
    "gather": "gloo_gather.GatherExtension",
    "all": "expert_map.ExpertMapExtension",
}
ON_GPUS: Final = {"dtype": "bfloat16", "moe_backend": "triton", "all2all_backend": "allgather_reducescatter"}
"""Kernels for the experts that need no compiler but Triton's, and the exchange by NCCL that vLLM has built in."""
DEFAULTS: Final = {
    "dp_mode": "offline",
    "step_ranks": "only_0",
    "ep": "on",
    "api": "LLM",
    "supply": "nothing",
    "device": "cpu",
}


def extension(settings: Mapping[str, str]) -> str:
    """Return the worker extension: the probe, with or without what vLLM lacks on the CPU."""
    return f"scenarios.programs.{EXTENSIONS[settings['supply']]}"


def arguments(settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the engine arguments of one rank."""
    return engine_settings(
        model=tiny_model("moe"),
        max_num_seqs=8,
        max_model_len=512,
        enable_expert_parallel=settings["ep"] == "on",
        worker_extension_cls=extension(settings),
        **for_device(settings),
    )


def for_device(settings: Mapping[str, str]) -> dict[str, str]:
    """Return what the engines are told on GPUs and not on the CPU."""
    return ON_GPUS if settings["device"] != "cpu" else {}


def start_method(settings: Mapping[str, str]) -> str:
    """Return how the offline ranks are started."""
    return "spawn" if settings["device"] != "cpu" else "fork"


class Engine:
    """One engine by either interface; what it is asked, it answers when it is done."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        import vllm

        self.loop = asyncio.new_event_loop()
        self.asynchronous = settings["api"] != "LLM"
        if self.asynchronous:
            self.engine: Any = self.loop.run_until_complete(_async_engine(settings))
        else:
            self.engine = vllm.LLM(**arguments(settings))

    def sizes(self) -> dict[str, Any]:
        """Return what its first worker says of the ranks that it shares data and experts with."""
        answer = self.engine.collective_rpc("parallel_sizes")
        found: dict[str, Any] = (self.loop.run_until_complete(answer) if self.asynchronous else answer)[0]
        return found

    def generate(self, prompts: int) -> int:
        """Generate for so many prompts and return the number of tokens."""
        from vllm import SamplingParams

        sampling = SamplingParams(max_tokens=TOKENS, min_tokens=TOKENS, temperature=0.0, ignore_eos=True)
        if self.asynchronous:
            return self.loop.run_until_complete(_generate(self.engine, sampling, prompts))
        answers = self.engine.generate([PROMPT] * prompts, sampling, use_tqdm=False)
        return sum(len(answer.outputs[0].token_ids) for answer in answers)

    def stop(self) -> None:
        """Shut the engine down: a process that holds one would wait for it when it ends."""
        if self.asynchronous:
            self.engine.shutdown()
        else:
            self.engine.llm_engine.engine_core.shutdown()


async def _async_engine(settings: Mapping[str, str]) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    if settings["api"] == "AsyncLLM_patched":
        _patch_client()
    return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments(settings)))


def _patch_client() -> None:
    """Let the asynchronous client start without a coordinator, which two of its assertions forbid.

    It gets the address whose absence stops it, as in NeMo-RL#1495: nobody publishes there. And it is the client of one
    engine, since the one that balances, which vLLM takes for more than one rank, wants more than one engine of its own.
    """
    from vllm.v1.engine import core_client

    shipped = core_client.DPAsyncMPClient._ensure_stats_update_task  # noqa: SLF001 - the patch is the subject

    def patched(self: Any) -> None:
        self.stats_update_address = self.stats_update_address or f"tcp://127.0.0.1:{_free_port()}"
        shipped(self)

    core_client.DPAsyncMPClient._ensure_stats_update_task = patched  # noqa: SLF001
    core_client.DPLBAsyncMPClient = core_client.DPAsyncMPClient


async def _generate(engine: Any, sampling: Any, prompts: int) -> int:
    async def one(number: int) -> int:
        tokens = 0
        async for output in engine.generate(PROMPT, sampling, request_id=str(number)):
            tokens = len(output.outputs[0].token_ids)
        return tokens

    return sum(await asyncio.gather(*(one(number) for number in range(prompts))))


# Offline ------------------------------------------------------------------------------------------------------------


def rank_main(rank: int, port: int, settings: Mapping[str, str], pipe: Connection) -> None:
    """Be one rank: start, say so, generate as often as told to; an idle rank waits for its next order."""
    os.environ |= {
        "VLLM_DP_SIZE": str(RANKS),
        "VLLM_DP_RANK": str(rank),
        "VLLM_DP_RANK_LOCAL": str(rank),
        "VLLM_DP_MASTER_IP": "127.0.0.1",
        "VLLM_DP_MASTER_PORT": str(port),
    }
    try:
        engine = Engine(settings)
        child.mark("rank_ready", rank=rank, **engine.sizes())
        pipe.send("ready")
        while prompts := pipe.recv():
            with child.phase("step", rank=rank):
                pipe.send(engine.generate(prompts))
    except Exception as error:  # noqa: BLE001 - whatever keeps a rank from stepping is what the cell is about
        traceback.print_exc()
        child.observe_error("rank_failed", error)
        pipe.send(None)
    else:
        engine.stop()


def run_offline(settings: Mapping[str, str]) -> None:
    """Start both ranks, let one or both step, and end them."""
    method, port = start_method(settings), _free_port()
    if method == "fork":
        import vllm  # noqa: F401 - so that both ranks have it
    context: Any = multiprocessing.get_context(method)
    ranks, pipes = [], []
    for rank in range(RANKS):
        ours, theirs = context.Pipe()
        ranks.append(context.Process(target=rank_main, args=(rank, port, settings, theirs), name=f"rank{rank}"))
        ranks[-1].start()
        theirs.close()
        pipes.append(ours)
    ready = [pipe.recv() for pipe in pipes]  # no declared phase: a start may stand still on a machine that is busy
    asked = pipes if settings["step_ranks"] == "both" else pipes[:1]
    if all(ready):
        observe_answers(lambda: _ask(asked))
    child.mark("engines_said", words=list(said()))
    for pipe, process in zip(pipes, ranks, strict=True):
        if process.is_alive():
            pipe.send(0)
    until = time.monotonic() + STOP_S
    for process in ranks:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            child.mark("rank_killed", rank=process.name)
            process.kill()


def _ask(pipes: Sequence[Connection]) -> list[int | None]:
    for pipe in pipes:
        pipe.send(PROMPTS)
    return [pipe.recv() for pipe in pipes]


# A coordinator, or Ray ----------------------------------------------------------------------------------------------


def run_coordinator(settings: Mapping[str, str]) -> None:
    """Ask one vLLM server, whose coordinator wakes the rank that has nothing to do; one request reaches one rank."""
    from scenarios.programs.vllm_server import start_server

    prepare_environment(VLLM_SERVER_DEV_MODE="1")
    with child.phase("engine_start"):
        server = start_server("--data-parallel-size", str(RANKS), "--api-server-count", "1", **arguments(settings))
        server.wait_ready()
    sizes = _post(f"{server.url}/collective_rpc", {"method": "parallel_sizes"})["results"][0]
    child.mark("rank_ready", rank=0, **sizes)
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": TOKENS, "ignore_eos": True, "temperature": 0}
    requests = 1 if settings["step_ranks"] == "only_0" else RANKS * PROMPTS

    def ask() -> list[int | None]:
        with ThreadPoolExecutor(requests) as pool, child.phase("step"):
            answers = list(pool.map(lambda _: _post(f"{server.url}/v1/completions", body), range(requests)))
        return [int(answer["usage"]["completion_tokens"]) for answer in answers]

    observe_answers(ask)
    child.mark("engines_said", words=list(said()))
    with child.phase("stop"):
        server.process.terminate()
        server.process.wait(20)


def run_ray(settings: dict[str, str]) -> None:
    """Let independent engines in Ray actors be the data parallelism."""
    import ray

    from scenarios.programs.local_ray import local_ray

    on_gpus = settings["device"] != "cpu"
    needs: dict[str, int] = {"num_cpus": 1} | ({"num_gpus": 1} if on_gpus else {})
    with local_ray(logical_cpus=RANKS, logical_gpus=RANKS if on_gpus else 0):
        actors = [ray.remote(Engine).options(**needs).remote(settings) for _ in range(RANKS)]
        with child.phase("engine_start"):
            sizes = ray.get([actor.sizes.remote() for actor in actors])
        for rank, found in enumerate(sizes):
            child.mark("rank_ready", rank=rank, **found)
        asked = actors if settings["step_ranks"] == "both" else actors[:1]
        with child.phase("step"):
            observe_answers(lambda: ray.get([actor.generate.remote(PROMPTS) for actor in asked]))


def observe_answers(ask: Any) -> None:
    """Ask, and record the tokens of each that answered and how fast they came."""
    child.mark("stepping")
    begin = time.monotonic()
    answers: list[int | None] = ask()
    seconds = time.monotonic() - begin
    tokens = [answer or 0 for answer in answers]
    child.mark(
        "answered", tokens=[*tokens], failed=answers.count(None), tok_s=round(sum(tokens) / seconds, 1),
        seconds=round(seconds, 3),
    )  # fmt: skip


def said() -> list[str]:
    """Return which of the known words stand in what the engines printed, which share this program's output."""
    texts = [path.read_text(errors="replace") for name in ("stdout", "stderr") if (path := Path(name)).exists()]
    return [word for word in WORDS if any(word in text for text in texts)]


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - our own server
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Run the cell."""
    settings = DEFAULTS | child.params()
    prepare_environment(VLLM_CPU_OMP_THREADS_BIND="nobind", OMP_NUM_THREADS="1")
    match settings["dp_mode"]:
        case "offline":
            run_offline(settings)
        case "coordinator":
            run_coordinator(settings)
        case _:
            run_ray(settings)
    child.finish()


if __name__ == "__main__":
    main()
