"""Asks a real vLLM server twice with one ``X-Request-Id``, the second time while the first answer is being decoded.

Then it looks on: who was answered, whether the server is still healthy, and what the engine said when it died. The
engine's own words are read from this program's output, which the server shares.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

import psutil

from harness import child
from scenarios.programs.vllm_server import Server, start_server

LONG: Final = 1500
"""Tokens of the first answer; the second request comes while they are decoded."""
SHORT: Final = 16
ANSWER_S: Final = 90.0
END_S: Final = 5.0
TOLD_S: Final = 3.0
"""How long a client is waited for once the engine is gone, in seconds."""
WORDS: Final = ("AssertionError: duplicate request id", "EngineDeadError")
DEFAULTS: Final = {"request_id": "same", "prefix_caching": "on", "chunked_prefill": "on", "max_num_seqs": "16"}


class Asked(threading.Thread):
    """One request; keeps how it was answered."""

    def __init__(self, server: Server, request_id: str, tokens: int) -> None:
        super().__init__(daemon=True)
        body = {
            "model": server.model,
            "prompt": "the crash cart",
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
        }
        self.request = urllib.request.Request(  # noqa: S310 - our own server
            f"{server.url}/v1/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "X-Request-Id": request_id},
        )
        self.chunks = 0
        self.finished = False
        self.how = "no answer"

    def run(self) -> None:
        """Read the answer to its end, or until it breaks."""
        try:
            with urllib.request.urlopen(self.request, timeout=ANSWER_S) as answer:  # noqa: S310 - our own server
                for line in answer:
                    self.chunks += line.startswith(b"data: {") and b'"error"' not in line
                    if b'"error"' in line:
                        self.how = line.decode(errors="replace").strip()[:300]
                    self.finished |= line.startswith(b"data: [DONE]")
        except (urllib.error.URLError, OSError, ValueError) as error:
            self.how = f"{type(error).__name__}: {error}"
        else:
            if self.how == "no answer" and self.finished:
                self.how = "answered"


def engine_said() -> list[str]:
    """Return which of the known words stand in the output so far."""
    texts = [path.read_text(errors="replace") for name in ("stdout", "stderr") if (path := Path(name)).exists()]
    return [word for word in WORDS if any(word in text for text in texts)]


def engine_alive(family: list[psutil.Process]) -> bool:
    """Whether the engine's process is still there."""
    for process in family:
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cmdline()[:1] == ["VLLM::EngineCore"]:
                return True
        except psutil.NoSuchProcess:
            continue
    return False


def ask_twice(server: Server, request_id: str) -> None:
    """Send both requests and record what became of them, of the engine, and of the server."""
    first = Asked(server, "crashcart-1", LONG)
    first.start()
    deadline = time.monotonic() + ANSWER_S
    while first.chunks < 5 and first.is_alive() and time.monotonic() < deadline:  # noqa: PLR2004
        time.sleep(0.01)
    second = Asked(server, "crashcart-1" if request_id == "same" else "crashcart-2", SHORT)
    family = server.family()
    child.mark("second_request", first_chunks=first.chunks, first_running=first.is_alive(), engine=engine_alive(family))
    second.start()
    until = time.monotonic() + ANSWER_S
    while (first.is_alive() or second.is_alive()) and engine_alive(family) and time.monotonic() < until:
        time.sleep(0.1)
    for asked in (first, second):  # the clients of a dead engine are told at once, or never
        asked.join(TOLD_S)
    said: list[Any] = [*engine_said()]
    child.mark(
        "answers",
        first=first.how,
        first_chunks=first.chunks,
        second=second.how,
        healthy=server.healthy(),
        engine=engine_alive(family),
        said=said,
    )


def end(server: Server) -> None:
    """End the server; one whose engine is dead waits for its clients, so it is given a limit."""
    server.process.terminate()
    try:
        server.process.wait(END_S)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()


def main() -> None:
    """Start the server with the settings of the cell, ask twice, and end it."""
    settings = DEFAULTS | child.params()
    with child.phase("server_start"):
        server = start_server(
            enable_prefix_caching=settings["prefix_caching"] == "on",
            enable_chunked_prefill=settings["chunked_prefill"] == "on",
            max_num_seqs=int(settings["max_num_seqs"]),
        )
        server.wait_ready()
    with child.phase("requests"):
        ask_twice(server, settings["request_id"])
    end(server)
    child.finish()


if __name__ == "__main__":
    main()
