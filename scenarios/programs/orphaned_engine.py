"""Lets a real vLLM server come to a given moment, at which the supervisor signals one of its processes, and looks on.

The program itself signals nobody and ends nobody: what outlives the server is for the supervisor to find.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final

import psutil

from harness import child
from scenarios.programs import gpu_memory, sglang_server
from scenarios.programs.vllm_server import READY_S, Server, innermost, start_server, titles

OBSERVE_S: Final = 8.0
"""How long the aftermath is watched, in seconds, unless all processes of the engine are gone before.

The supervisor looks on for three more before it ends anything, so that a survivor has lived for more than ten.
"""
FAREWELL_S: Final = 6.0
"""How long a server without an engine may take to say goodbye, in seconds, before the program ends without it."""
LONG_ANSWER: Final = 1900
"""Tokens of the request that is being decoded when the signal comes."""
INNER_S: Final = 120.0
DEFAULTS: Final = {"target": "api", "signal": "KILL", "moment": "idle", "stack": "vllm"}
ENGINE: Final = ("VLLM::", "sglang::")
"""How the titles of the processes behind an API server begin."""


class Stream(threading.Thread):
    """A client in the middle of a streamed answer; keeps what it saw."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.chunks = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        """Read the answer to its end, or until the connection breaks."""
        import openai

        client = openai.OpenAI(base_url=f"{self.server.url}/v1", api_key="none", max_retries=0, timeout=60)
        try:
            stream = client.completions.create(
                model=self.server.model,
                prompt="the crash cart",
                max_tokens=LONG_ANSWER,
                temperature=0,
                stream=True,
                extra_body={"ignore_eos": True},
            )
            for _ in stream:
                self.chunks += 1
        except (openai.OpenAIError, OSError) as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - the transport's own errors differ between releases of the client
            self.error = error


def come_to_start(server: Server) -> None:
    """Return when the innermost process has named itself, which is before the engine is ready."""
    deadline = time.monotonic() + INNER_S
    while not any(innermost() in title["name"] for title in titles(server.family())):
        if server.process.poll() is not None or time.monotonic() > deadline:
            msg = f"no {innermost()} appeared (server exit code {server.process.poll()})"
            raise RuntimeError(msg)
        time.sleep(0.05)


def come_to_decode(server: Server) -> Stream:
    """Return when tokens of a long answer are arriving."""
    stream = Stream(server)
    stream.start()
    deadline = time.monotonic() + INNER_S
    while stream.chunks < 5:  # noqa: PLR2004
        if stream.error is not None:
            raise stream.error
        if time.monotonic() > deadline:
            msg = "no tokens arrived"
            raise TimeoutError(msg)
        time.sleep(0.01)
    return stream


def watch_aftermath(server: Server, family: list[psutil.Process], stream: Stream | None) -> None:
    """Record who is alive, until all are gone or the time is up."""
    begin = time.monotonic()
    with child.phase("aftermath"):
        while time.monotonic() - begin < OBSERVE_S:
            server.process.poll()  # the server is our child: reap it, as its real parent would
            alive = titles(family)
            settled = time.monotonic() - begin > FAREWELL_S
            if not alive or (settled and not any(title["name"].startswith(ENGINE) for title in alive)):
                break
            time.sleep(0.1)
    left: list[Any] = [*titles(family)]
    memory = gpu_memory.held() or {}
    child.mark(
        "aftermath",
        alive=left,
        seconds=round(time.monotonic() - begin, 2),
        port_answers=server.healthy(),
        gpu_mib={str(one["pid"]): memory[one["pid"]] for one in left if one["pid"] in memory},
    )
    if stream is not None:
        stream.join(timeout=5)
        if stream.error is not None:
            child.observe_error("client_saw", stream.error)
        child.mark("client", chunks=stream.chunks, finished=not stream.is_alive() and stream.error is None)


def main() -> None:
    """Start the server, come to the moment, let the fault happen, look on."""
    settings = DEFAULTS | child.params()
    moment = settings["moment"]
    stream = None
    with child.phase("server_start"):
        server = start_server() if settings["stack"] == "vllm" else sglang_server.start_server()
        if moment == "start":
            come_to_start(server)
        else:
            server.wait_ready(READY_S if settings["stack"] == "vllm" else sglang_server.READY_S)
    if moment == "decode":
        with child.phase("decode"):
            stream = come_to_decode(server)
    family = server.family()
    found: list[Any] = [*titles(family)]
    child.mark("fault_now", family=found, code=server.process.poll())
    watch_aftermath(server, family, stream)
    child.finish()


if __name__ == "__main__":
    main()
