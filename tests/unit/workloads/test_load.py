"""Rate, concurrency, warm-up and seeds on a sender that needs no server; the client on streams that misbehave."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from scenarios.workloads.client import OpenAIClient, Running
from scenarios.workloads.load import Ask, Load, Measured, asks, delays, drive
from scenarios.workloads.metrics import Answer


class Sender:
    """Answers every request after a while, and keeps how many were in flight at once."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.asked: list[Ask] = []
        self.flying = 0
        self.most = 0

    async def send(self, ask: Ask) -> Answer:
        self.asked.append(ask)
        self.flying += 1
        self.most = max(self.most, self.flying)
        begin_s = time.monotonic()
        await asyncio.sleep(self.seconds)
        self.flying -= 1
        now_s = time.monotonic()
        return Answer(
            index=ask.index, due_s=begin_s, sent_s=begin_s, chunk_s=(now_s,), ended_s=now_s,
            output_tokens=1, finish_reason="stop",
        )  # fmt: skip


def put(load: Load, sender: Sender) -> Measured:
    return asyncio.run(drive(sender.send, load))


def test_one_seed_asks_the_same_and_another_does_not() -> None:
    load = Load(requests=5, seed=7)
    assert asks(load) == asks(load)
    assert asks(load) != asks(replace(load, seed=8))
    assert len(asks(replace(load, input_tokens=40))[0].prompt.split()) == 40


def test_no_more_are_in_flight_than_allowed() -> None:
    sender = Sender(0.02)
    measured = put(Load(requests=9, concurrency=3), sender)
    assert sender.most == 3
    assert measured.metrics().requests_ok == 9
    assert measured.metrics().queue.percentiles[99.0] >= 20, "the last ones waited for two rounds of 20 ms"


def test_without_a_limit_all_are_in_flight_at_once() -> None:
    sender = Sender(0.02)
    put(Load(requests=9), sender)
    assert sender.most == 9


def test_the_warm_up_is_sent_and_counted_nowhere() -> None:
    sender = Sender()
    measured = put(Load(requests=4, warmup=3), sender)
    assert len(sender.asked) == 7
    assert [answer.index for answer in measured.answers] == [0, 1, 2, 3]


@pytest.mark.parametrize("burstiness", [0.5, 1.0, 4.0, math.inf])
def test_the_rate_is_kept_over_the_whole_load(burstiness: float) -> None:
    """The last request is due after exactly requests / rate seconds, as in vLLM's benchmark."""
    due = delays(Load(requests=50, rate=20.0, burstiness=burstiness, seed=3))
    assert due[-1] == pytest.approx(2.5)
    assert due == sorted(due)
    assert len(set(due)) == 50


def test_requests_are_sent_at_their_times() -> None:
    begin_s = time.monotonic()
    measured = put(Load(requests=10, rate=50.0, warmup=0), Sender())
    assert time.monotonic() - begin_s >= 0.2
    sent = [answer.sent_s - measured.begin_s for answer in measured.answers]
    assert all(late_s >= due_s for late_s, due_s in zip(sent, delays(measured.load), strict=True))


@pytest.mark.parametrize(
    "wrong", [{"requests": 0}, {"rate": 0.0}, {"burstiness": -1.0}, {"warmup": -1}, {"concurrency": 0}]
)
def test_a_load_that_cannot_be_says_which_field_is_wrong(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Load(**wrong)  # type: ignore[arg-type]


def test_a_load_is_recorded_with_its_seed_as_plain_json() -> None:
    said = json.loads(json.dumps(put(Load(requests=2, seed=11), Sender()).plain(), allow_nan=False))
    assert said["load"]["seed"] == 11
    assert said["load"]["rate"] is None
    assert said["requests_ok"] == 2


CHUNK = b'data: {"choices":[{"text":" a","finish_reason":%s}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
FULL = CHUNK % b"null" + CHUNK % b'"length"' + USAGE + DONE
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"


@asynccontextmanager
async def serving(answer: bytes, *, pause_s: float = 0.0) -> AsyncIterator[str]:
    """Serve these bytes to whoever asks."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(pause_s)
            writer.write(answer)
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def ask_once(answer: bytes, timeout_s: float | None = None, pause_s: float = 0.0) -> Answer:
    pytest.importorskip("aiohttp", reason="the load generator's client needs aiohttp, which comes with vLLM")

    async def go() -> Answer:
        async with serving(answer, pause_s=pause_s) as url, OpenAIClient(url, model="m", timeout_s=timeout_s) as client:
            return await client.send(Ask(index=0, output_tokens=2, prompt="a"))

    return asyncio.run(go())


def test_a_whole_stream_is_an_answer() -> None:
    answer = ask_once(HEAD + b"\r\n" + FULL)
    assert (answer.ok, answer.text, answer.output_tokens, answer.prompt_tokens) == (True, " a a", 2, 3)
    assert len(answer.chunk_s) == 2


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (HEAD + b"\r\n" + CHUNK % b"null", "the stream ended before the answer did"),
        (HEAD + b"\r\n" + CHUNK % b"null" + b'data: {"error":{"message":"dead"}}\n\n' + DONE, "error in the stream"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n10\r\nbroken", "ClientPayloadError"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndead", "HTTP 500: dead"),
        (b"", "ServerDisconnectedError"),
    ],
    ids=["cut in good order", "error inside", "cut inside a chunk", "status", "hung up"],
)
def test_a_stream_that_breaks_is_a_failure_with_its_reason(sent: bytes, why: str) -> None:
    answer = ask_once(sent)
    assert not answer.ok
    assert why in str(answer.failure)


def test_an_answer_that_takes_too_long_is_a_failure() -> None:
    assert "TimeoutError" in str(ask_once(HEAD + b"\r\n" + FULL, timeout_s=0.1, pause_s=0.5).failure)


def wait_for(running: Running, answers: int) -> None:
    while running.answered < answers and running.alive():
        time.sleep(0.01)


def test_a_load_in_the_background_is_ended_when_asked() -> None:
    """A thousand requests, one at a time, 50 ms each: stopped after a few, and those are whole."""
    pytest.importorskip("aiohttp", reason="as above")

    async def go() -> Measured:
        async with serving(HEAD + b"\r\n" + FULL, pause_s=0.05) as url:
            running = Running(OpenAIClient(url, model="m"), Load(requests=1000, concurrency=1, warmup=0))
            running.start()
            await asyncio.to_thread(wait_for, running, 3)
            return await asyncio.to_thread(running.finish)

    measured = asyncio.run(go())
    assert 3 <= len(measured.answers) <= 10
    assert all(answer.ok for answer in measured.answers)


def test_what_a_dead_server_never_answers_is_given_up_and_told() -> None:
    """The connection stays open and nothing comes: a failure with its reason, after the patience and no later."""
    pytest.importorskip("aiohttp", reason="as above")

    async def go() -> Measured:
        async with serving(b"", pause_s=30) as url:
            load = Load(requests=5, concurrency=2, warmup=0)
            running = Running(OpenAIClient(url, model="m"), load, patience_s=0.2).start()
            await asyncio.sleep(0.2)
            return await asyncio.to_thread(running.finish)

    begin_s = time.monotonic()
    measured = asyncio.run(go())
    assert time.monotonic() - begin_s < 5
    assert [str(answer.failure).partition(":")[0] for answer in measured.answers] == ["given up", "given up"]
