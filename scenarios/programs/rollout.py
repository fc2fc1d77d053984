"""Runs conversations through a rollout of real Ray actors and vLLM servers, and lets something happen meanwhile.

Worker actors hold the model; each server's engine finds its worker by name. ``handles=weak`` drops the group that made
the workers and goes on with handles that were looked up by name: Ray ends the workers when Python's collector frees the
group, which happens under load, whenever it happens. ``fault`` is what goes wrong on purpose.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import re
import time
import urllib.request
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import ray
from openai import AsyncOpenAI

from harness import child
from scenarios.programs.engine_args import ENVIRONMENT
from scenarios.programs.local_ray import local_ray
from scenarios.programs.tiny_model import TEXT, tiny_model
from scenarios.workloads.rollout.manager import RolloutManager
from scenarios.workloads.rollout.scheduler import (
    ChatScheduler,
    Completion,
    Conversation,
    Errors,
    Mode,
    Rollout,
    Routing,
    Turn,
    agreement,
    lost,
)
from scenarios.workloads.rollout.server import MODEL
from scenarios.workloads.rollout.workers import NAMESPACE, WorkerGroup

CONVERSATIONS: Final = 8
TOKENS: Final = 32
PROMPT_WORDS: Final = 400
LONG_WORDS: Final = 900
CONTEXT: Final = 1024
"""Tokens of prompt and answer together; a long prompt leaves room for one answer, and for no second one."""
LOAD_S: Final = 6.0
"""How long the load goes on before the garbage collector is run by hand, in seconds."""
METRIC: Final = re.compile(r"^vllm:prefix_cache_(queries|hits)_total(?:\{[^}]*\})? ([\d.e+]+)$", re.MULTILINE)
WORKER_ENVIRONMENT: Final = ENVIRONMENT | {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "TRITON_F32_DEFAULT": "ieee",
}
"""Triton would multiply float32 in TF32, whose ten bits are rounded otherwise where a batch is cut otherwise."""
DEFAULTS: Final = {
    "handles": "strong",
    "mode": "async",
    "routing": "sticky",
    "errors": "delivered",
    "fault": "none",
    "servers": "1",
    "turns": "3",
    "dtype": "float32",
    "hidden": "256",
    "invariant": "off",
    "device": "cpu",
}


class Clients:
    """One OpenAI client for each server, without time-out and retries: a retry would do the work again."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._clients = {
            address: AsyncOpenAI(base_url=f"{address}/v1", api_key="none", timeout=None, max_retries=0)
            for address in addresses
        }
        self.answered = 0
        self.missed = 0
        """Later turns of a conversation whose server had nothing of it in its prefix cache."""

    async def send(self, address: str, turn: Turn) -> Completion:
        """Send a turn to the chat route."""
        answer = await self._clients[address].chat.completions.create(
            model=MODEL,
            messages=cast("Any", list(turn.messages)),
            max_tokens=TOKENS,
            temperature=0.0,
            extra_body={"ignore_eos": True},
            extra_headers={"X-Request-Id": f"{turn.conversation}-{turn.number}"},
        )
        self.answered += 1
        if self.answered == CONVERSATIONS + 2:
            child.mark("mid_turn", answered=self.answered)
        usage, text = answer.usage, answer.choices[0].message.content or ""
        details = usage.prompt_tokens_details if usage else None
        cached = (details.cached_tokens or 0) if details else 0
        self.missed += turn.number > 0 and cached == 0
        return Completion(text=text, tokens=usage.completion_tokens if usage else 0)


def count(answer: str) -> str:
    """Be the tool that is called with each answer."""
    return f"the answer has {len(answer)} characters"


def prompts(*, long: int = 0) -> list[str]:
    """Return prompts that begin differently, so that none has another one's prefix; the first ones are long."""
    words = TEXT.split()
    lengths = [LONG_WORDS if number < long else PROMPT_WORDS for number in range(CONVERSATIONS)]
    return [
        " ".join(words[(number + position * (number + 1)) % len(words)] for position in range(length))
        for number, length in enumerate(lengths)
    ]


def prefix_cache(addresses: Sequence[str]) -> dict[str, float]:
    """Return how many tokens were looked up in the servers' prefix caches, and how many were found."""
    totals = {"queries": 0.0, "hits": 0.0}
    for address in addresses:
        with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:  # noqa: S310 - our own server
            for name, value in METRIC.findall(answer.read().decode()):
                totals[name] += float(value)
    return totals


class Cell:
    """One cell on running servers."""

    def __init__(self, settings: Mapping[str, str], manager: RolloutManager) -> None:
        self.settings = settings
        self.manager = manager
        self.turns = int(settings["turns"])
        self.clients = Clients(manager.addresses)

    def rollout(self, mode: str) -> Rollout:
        """Return a rollout with a scheduler of its own."""
        scheduler = ChatScheduler(
            self.manager.addresses,
            self.clients.send,
            routing=cast("Routing", self.settings["routing"]),
            errors=cast("Errors", self.settings["errors"]),
        )
        return Rollout(scheduler, count, turns=self.turns, mode=cast("Mode", mode))

    def whole(self, done: Sequence[Conversation]) -> bool:
        """Whether every conversation came to its end."""
        return all(len(one.answers) == self.turns for one in done)

    async def measured(self, asked: Sequence[str]) -> list[Conversation]:
        """Run the conversations of the cell and record what became of them, how fast, and with which cache."""
        before, self.clients.missed = prefix_cache(self.manager.addresses), 0
        begin = time.monotonic()
        with child.phase("rollout", conversations=len(asked)):
            done = await self.rollout(self.settings["mode"]).run(asked)
        seconds = time.monotonic() - begin
        cache = {}
        if self.whole(done):  # otherwise a server may be gone, and its counters with it
            after = prefix_cache(self.manager.addresses)
            cache = {name: after[name] - before[name] for name in after}
        tokens = sum(one.tokens for one in done)
        child.mark(
            "rolled_out",
            conversations=len(done),
            finished=sum(len(one.answers) == self.turns for one in done),
            told=[f"{type(one.error).__name__}: {str(one.error)[:200]}" for one in done if one.error],
            lost=[*lost(done, self.turns)],
            tokens=tokens,
            tok_s=round(tokens / seconds, 1),
            seconds=round(seconds, 3),
            prefix_cache=cast("dict[str, child.Json]", cache),
            missed=self.clients.missed,
            outputs=[hashlib.sha256("\0".join(one.answers).encode()).hexdigest()[:16] for one in done],
        )
        return done

    async def compare(self, done: Sequence[Conversation], asked: Sequence[str]) -> None:
        """Ask the same again, one conversation at a time, and record how many have the same answers."""
        with child.phase("alone"):
            alone = [(await self.rollout("sync").run([prompt], name=f"alone{n}"))[0] for n, prompt in enumerate(asked)]
        child.mark("agreement", share=agreement(done, alone), conversations=len(done))

    async def load(self, freed: asyncio.Event) -> None:
        """Keep the servers busy until the collector has freed the dropped group, and for one more round."""
        begin = time.monotonic()
        kept: list[list[Conversation]] = []
        while not freed.is_set() and time.monotonic() - begin < LOAD_S:
            kept.append(await self.rollout("async").run(prompts(), name=f"load{len(kept)}"))
            if any(one.error for one in kept[-1]):
                break
        by_itself = freed.is_set()
        if not by_itself:
            gc.collect()
        child.mark("loaded", rounds=len(kept), by_itself=by_itself, seconds=round(time.monotonic() - begin, 1))
        await asyncio.sleep(1)


def observe_call(group: WorkerGroup) -> None:
    """Call the workers through the handles that are left, and look the first one up again."""
    try:
        child.mark("call_result", pids=[*group.calls["ping"]()])
    except ray.exceptions.RayError as error:
        child.observe_error("call_failed", error)
    try:
        ray.get_actor(group.names[0], NAMESPACE)
    except ValueError as error:
        child.observe_error("lookup_failed", error)


def set_aside() -> None:
    """Keep the collector from looking at what was imported, as vLLM's own servers do.

    A full collection comes when the objects that are new are a quarter of those that are there; without the imports the
    load of seconds brings it about, with them that of hours.
    """
    gc.collect()
    gc.freeze()
    gc.collect()


def drop(held: list[WorkerGroup], freed: asyncio.Event) -> None:
    """Drop the only reference to the group that made the workers; tell when the collector has freed it."""
    begin = time.monotonic()

    def gone() -> None:
        freed.set()
        child.mark("group_freed", seconds=round(time.monotonic() - begin, 3))

    weakref.finalize(held[0], gone).atexit = False
    held.clear()
    child.mark("group_dropped")


async def run_cell(cell: Cell, held: list[WorkerGroup]) -> None:
    """Warm up, let the servers sleep and wake, then do what the cell asks for."""
    await cell.rollout("sync").run(["the crash cart"], name="warm")
    with child.phase("sleep"):
        cell.manager.sleep()
        cell.manager.wake()
    if cell.settings["handles"] == "weak" and cell.settings["fault"] != "name_lost":
        freed = asyncio.Event()
        drop(held, freed)
        await cell.load(freed)
    asked = prompts(long=CONVERSATIONS // 2 if cell.settings["fault"] == "too_long" else 0)
    done = await cell.measured(asked)
    if cell.whole(done):
        await cell.compare(done, asked)


def run(settings: dict[str, str]) -> None:
    """Start workers and servers, run the cell, and stop."""
    set_aside()
    names = [f"worker_{number}" for number in range(int(settings["servers"]))]
    on_gpu = settings["device"] != "cpu"
    held = [WorkerGroup.create(names, WORKER_ENVIRONMENT, gpus=int(on_gpu))]
    with child.phase("workers_start"):
        held[0].calls["ping"]()
    spawned = held[0].spawn(strong=settings["handles"] == "strong")
    if settings["fault"] == "name_lost":
        drop(held, asyncio.Event())
        gc.collect()
        time.sleep(1)
    manager = RolloutManager(
        names,
        WORKER_ENVIRONMENT,
        {
            "model": tiny_model("wide" if settings["hidden"] == "2048" else "random"),
            "load_format": "auto",
            "max_model_len": CONTEXT,
            "dtype": settings["dtype"],
            "enable_sleep_mode": on_gpu,
        },
    )
    try:
        with child.phase("servers_start"):
            manager.start()
            invariant = spawned.calls["invariant"]()
    except ray.exceptions.RayError as error:
        child.observe_error("start_failed", error)
    else:
        for facts, mode in zip(manager.facts(), invariant, strict=True):
            child.mark("server_ready", **facts, invariant="on" if mode else "off")
        asyncio.run(run_cell(Cell(settings, manager), held))
    observe_call(spawned)
    try:
        with child.phase("stop"):
            manager.stop()
    except (ray.exceptions.RayError, AttributeError) as error:
        child.observe_error("stop_failed", error)


def main() -> None:
    """Run the cell."""
    settings = DEFAULTS | child.params()
    servers = int(settings["servers"])
    with local_ray(logical_cpus=2 * servers, logical_gpus=servers if settings["device"] != "cpu" else 0):
        run(settings)
    child.finish()


if __name__ == "__main__":
    main()
