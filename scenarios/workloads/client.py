"""Streams answers from servers that speak the OpenAI API: every chunk with its time, every failure with its reason.

`measure_server` puts a load on a server; `Running` does so on a thread, for programs that break something meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from scenarios.workloads.load import Ask, Load, Measured, asks, drive
from scenarios.workloads.metrics import Answer

DATA: Final = b"data: "
LINE_BYTES: Final = 1 << 20
"""A line of a stream may be so long; log-probabilities make long ones."""


class OpenAIClient:
    """Streams answers from servers that speak the OpenAI API, and times their chunks.

    Plain HTTP, without the retries and the timeout of the openai client: those would hide what is to be measured.

    Args:
        urls: Roots of the servers, without ``/v1``; requests go to them in turn.
        model: Name under which the model is served.
        timeout_s: How long one answer may take as a whole; ``None``: for ever.
    """

    def __init__(self, *urls: str, model: str, timeout_s: float | None = None) -> None:
        self._urls = urls
        self._model = model
        self._timeout_s = timeout_s
        self._session: Any = None

    async def __aenter__(self) -> Self:
        """Open the connections."""
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            read_bufsize=LINE_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close them."""
        await self._session.close()

    async def send(self, ask: Ask) -> Answer:
        """Send one request and return its story; a failure is part of it, and so is being cancelled."""
        server = self._urls[ask.index % len(self._urls)]
        route = "chat/completions" if ask.messages else "completions"
        headers = {"X-Request-Id": ask.request_id} if ask.request_id else {}
        story = _Story()
        error = None
        sent_s = time.monotonic()
        try:
            async with self._session.post(f"{server}/v1/{route}", json=self._body(ask), headers=headers) as response:
                if response.status != 200:  # noqa: PLR2004 - OK
                    text = (await response.text())[:400]
                    error = f"HTTP {response.status}: {text}"
                else:
                    async for line in response.content:
                        story.add(line)
        except asyncio.CancelledError:
            error = "given up: the server neither answered nor closed the connection"
        except Exception as problem:  # noqa: BLE001 - whatever broke the answer is its story
            error = f"{type(problem).__name__}: {problem}"
        return story.answer(ask, sent_s, error, server)

    def _body(self, ask: Ask) -> dict[str, Any]:
        asked = {"messages": list(ask.messages)} if ask.messages else {"prompt": ask.prompt}
        limit = {"max_completion_tokens" if ask.messages else "max_tokens": ask.output_tokens}
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        return {"model": self._model, **asked, **limit, "temperature": 0, "ignore_eos": True, **stream, **ask.more}


class _Story:
    """Collects the lines of a stream."""

    def __init__(self) -> None:
        self.chunk_s: list[float] = []
        self.text: list[str] = []
        self.usage: Mapping[str, int] = {}
        self.finish_reason: str | None = None
        self.error: str | None = None

    def add(self, line: bytes) -> None:
        if not line.startswith(DATA) or line.startswith(b"data: [DONE]"):
            return
        now_s = time.monotonic()
        data = json.loads(line[len(DATA) :])
        if choices := data.get("choices"):
            self.chunk_s.append(now_s)
            choice = choices[0]
            self.text.append(choice.get("text") or (choice.get("delta") or {}).get("content") or "")
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        elif data.get("usage"):
            self.usage = data["usage"]
        elif data.get("error"):
            self.error = f"error in the stream: {json.dumps(data['error'])[:400]}"

    def answer(self, ask: Ask, sent_s: float, error: str | None, server: str) -> Answer:
        return Answer(
            index=ask.index,
            due_s=sent_s,
            sent_s=sent_s,
            chunk_s=tuple(self.chunk_s),
            ended_s=time.monotonic(),
            prompt_tokens=self.usage.get("prompt_tokens", 0),
            output_tokens=self.usage.get("completion_tokens", len(self.chunk_s) if self.finish_reason else 0),
            finish_reason=self.finish_reason,
            error=error or self.error,
            text="".join(self.text),
            server=server,
        )


async def measure_server(url: str, load: Load, *, model: str, chat: bool = False) -> Measured:
    """Put a load on one server."""
    async with OpenAIClient(url, model=model) as client:
        return await drive(client.send, load, asks(load, chat=chat))


class Running:
    """A load on a thread of its own, while the program does something else; ``finish`` ends it and returns it.

    Args:
        client: Not yet opened.
        load: What is sent; as many requests as the time might take, since ``finish`` stops the sending.
        requests: What is asked; by default `asks` of the load.
        patience_s: How long ``finish`` waits for what is in flight before it gives that up; ``None``: for ever.
    """

    def __init__(
        self,
        client: OpenAIClient,
        load: Load,
        requests: Sequence[Ask] | None = None,
        patience_s: float | None = None,
    ) -> None:
        self.client = client
        self.load = load
        self.requests = requests
        self.patience_s = patience_s
        self.answered = 0
        """Requests that are complete so far, those that failed and those of the warm-up included."""
        self._measured: Measured | None = None
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._enough: asyncio.Event | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="load")

    def start(self) -> Self:
        """Begin to send."""
        self._thread.start()
        return self

    def alive(self) -> bool:
        """Whether there is something left to send or to wait for."""
        return self._thread.is_alive()

    def finish(self, *, wait: bool = False) -> Measured:
        """Return the load: with ``wait`` when everything was sent and answered, else nothing more is sent.

        Raises:
            RuntimeError: With its cause, if the load could not be carried out; failed requests are no reason.
        """
        self._begun.wait()
        if not wait and self._loop is not None and self._enough is not None:
            with suppress(RuntimeError):  # it came to its end by itself, and its loop is closed
                self._loop.call_soon_threadsafe(self._enough.set)
        self._thread.join()
        if self._measured is None:
            msg = "the load was not carried out"
            raise RuntimeError(msg) from self._error
        return self._measured

    def _run(self) -> None:
        try:
            self._measured = asyncio.run(self._drive())
        except BaseException as error:  # noqa: BLE001 - handed over to whoever calls `finish`
            self._error = error
        finally:
            self._begun.set()

    async def _drive(self) -> Measured:
        self._loop, self._enough = asyncio.get_running_loop(), asyncio.Event()
        self._begun.set()
        async with self.client as client:

            async def send(ask: Ask) -> Answer:
                answer = await client.send(ask)
                self.answered += 1
                return answer

            return await drive(send, self.load, self.requests, self._enough, self.patience_s)
