"""A load over the OpenAI API: request rate, concurrency, warm-up and seeds, every request with its own story.

`drive` sends and times; what sending means is the caller's: `OpenAIClient.send` streams from a server over HTTP, a
rollout sends through its own scheduler. The requests of a seed are the same on every machine.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from scenarios.workloads.metrics import Answer, Metrics, measure

WORDS: Final = tuple("the crash cart rolls to a machine that died and nobody has to guess why".split())  # noqa: SIM905


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is asked, how fast, and of what size."""

    requests: int = 16
    rate: float = math.inf
    """Requests per second; infinite: all at once, as far as ``concurrency`` allows."""
    burstiness: float = 1.0
    """Shape of the gamma distribution of the gaps: 1 is a Poisson process, more is more even, infinite a clock."""
    concurrency: int | None = None
    """Requests in flight at most; ``None``: no limit."""
    warmup: int = 1
    """Requests that are sent and answered before, and counted nowhere."""
    input_tokens: int = 16
    """Words of the prompt; about as many tokens."""
    output_tokens: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what no load can be.

        Raises:
            ValueError: With the field and what it has to be.
        """
        for name in ("requests", "rate", "burstiness", "input_tokens", "output_tokens"):
            if not getattr(self, name) > 0:
                msg = f"{name} must be more than 0, and is {getattr(self, name)}"
                raise ValueError(msg)
        if self.warmup < 0 or (self.concurrency is not None and self.concurrency < 1):
            msg = f"warmup must be 0 or more, concurrency 1 or more; they are {self.warmup} and {self.concurrency}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request: a prompt for the completions route, or messages for the chat route."""

    index: int
    output_tokens: int
    prompt: str = ""
    messages: tuple[Mapping[str, Any], ...] = ()
    request_id: str | None = None
    """``X-Request-Id``."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A load that was carried out; times are of the monotonic clock."""

    load: Load
    answers: tuple[Answer, ...]
    begin_s: float
    end_s: float
    """When the last answer was complete."""

    def metrics(self) -> Metrics:
        """Return what it came to."""
        return measure(self.answers, self.end_s - self.begin_s)

    def plain(self) -> dict[str, Any]:
        """Return load and metrics as JSON values, for an observation."""
        load = asdict(self.load)
        load["rate"], load["burstiness"] = (_finite(load[name]) for name in ("rate", "burstiness"))
        return {"load": load, "begin_s": self.begin_s, **self.metrics().plain()}

    def write(self, path: Path) -> None:
        """Write every request as a JSON line, from which all figures can be computed again."""
        path.write_text("".join(json.dumps(asdict(answer)) + "\n" for answer in self.answers))


Send = Callable[[Ask], Coroutine[Any, Any, Answer]]
"""Sends one request and returns its story; failures belong to the story and are not raised."""


def asks(load: Load, *, chat: bool = False) -> list[Ask]:
    """Return the requests of a load, which its seed determines."""
    chance = random.Random(load.seed)  # noqa: S311 - a workload, no secret
    texts = [" ".join(chance.choices(WORDS, k=load.input_tokens)) for _ in range(load.requests)]
    return [
        Ask(
            index=index,
            output_tokens=load.output_tokens,
            prompt="" if chat else text,
            messages=({"role": "user", "content": text},) if chat else (),
        )
        for index, text in enumerate(texts)
    ]


def delays(load: Load) -> list[float]:
    """Return when each request is due, in seconds after the first moment; the last one after ``requests / rate``.

    As ``vllm bench serve`` does it: gaps are drawn from a gamma distribution, and then stretched so that the rate is
    kept exactly.
    """
    if math.isinf(load.rate):
        return [0.0] * load.requests
    chance = random.Random(load.seed)  # noqa: S311 - as above
    even = math.isinf(load.burstiness)
    shape = load.burstiness
    gaps = [1.0 if even else chance.gammavariate(shape, 1.0 / shape) for _ in range(load.requests)]
    scale = load.requests / load.rate / sum(gaps)
    due, moment = [], 0.0
    for gap in gaps:
        moment += gap * scale
        due.append(moment)
    return due


async def drive(
    send: Send,
    load: Load,
    requests: Sequence[Ask] | None = None,
    stop: asyncio.Event | None = None,
    patience_s: float | None = None,
) -> Measured:
    """Send the requests as the load says, and return every story, in the order of the requests.

    Args:
        send: How one request is sent.
        load: Rate, concurrency, warm-up.
        requests: What is asked; by default `asks` of the load.
        stop: Once set, nothing more is sent.
        patience_s: How long what is in flight then is waited for, before it is cancelled; ``None``: for ever.
    """
    chosen = list(requests) if requests is not None else asks(load)
    stop = stop or asyncio.Event()
    flight = _Flight(send, load.concurrency, stop)
    for _ in range(load.warmup):
        await send(replace(chosen[0], request_id=None))
    begin_s = time.monotonic()
    tasks = []
    for ask, delay_s in zip(chosen, delays(replace(load, requests=len(chosen))), strict=True):
        if (ahead_s := begin_s + delay_s - time.monotonic()) > 0:
            await _wait(stop, ahead_s)
        if stop.is_set():
            break
        tasks.append(asyncio.create_task(flight.one(ask, time.monotonic())))
    clock = asyncio.create_task(flight.lose_patience(patience_s)) if patience_s is not None else None
    answers = [answer for answer in await asyncio.gather(*tasks) if answer is not None]
    if clock is not None:
        clock.cancel()
    return Measured(load=load, answers=tuple(answers), begin_s=begin_s, end_s=time.monotonic())


class _Flight:
    """What has been sent and is not answered."""

    def __init__(self, send: Send, concurrency: int | None, stop: asyncio.Event) -> None:
        self._send = send
        self._limit = asyncio.Semaphore(concurrency) if concurrency else None
        self._stop = stop
        self._tasks: set[asyncio.Task[Answer]] = set()

    async def one(self, ask: Ask, due_s: float) -> Answer | None:
        async with AsyncExitStack() as stack:
            if self._limit is not None:
                await stack.enter_async_context(self._limit)
            if self._stop.is_set():
                return None
            task = asyncio.create_task(self._send(ask))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return replace(await task, due_s=due_s)

    async def lose_patience(self, seconds: float) -> None:
        await self._stop.wait()
        await asyncio.sleep(seconds)
        for task in self._tasks:
            task.cancel()


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
