"""Interrupts a vLLM server, or a script with an engine of its own, while its engine starts, and looks on.

The program itself signals nobody and ends nobody: what goes on is for the supervisor to find.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any, Final

import psutil

from harness import child
from scenarios.programs.vllm_server import innermost, start_server, titles

OBSERVE_S: Final = 16.0
"""How long the aftermath is watched, in seconds, unless it is decided before: all are gone, or the engine came up."""
ORPHANED_S: Final = 8.5
"""How long the engine is watched without its host, in seconds."""
COME_S: Final = 120.0
DEFAULTS: Final = {"host": "server", "signal": "TERM", "moment": "start"}


def start_host(host: str) -> subprocess.Popen[bytes]:
    """Start what is going to be interrupted."""
    if host == "server":
        return start_server().process
    return subprocess.Popen([sys.executable, "-m", "scenarios.programs.offline_script"])


def family_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return a process and all its descendants."""
    try:
        me = psutil.Process(process.pid)
        return [me, *me.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def is_up(host: str) -> bool:
    """Whether the engine has come up, by its own words."""
    if host == "script":
        return (child.scratch() / "ready").exists()
    with open("stderr", errors="replace") as err:  # noqa: PTH123 - this program's own, which the server shares
        return "Application startup complete" in err.read()


def come_to(moment: str, host: str, process: subprocess.Popen[bytes]) -> None:
    """Return when the innermost process has named itself, which is before the engine is up, or when it is up."""
    deadline = time.monotonic() + COME_S
    while True:
        if moment == "start" and any(innermost() in title["name"] for title in titles(family_of(process))):
            return
        if moment == "ready" and is_up(host):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            msg = f"the {host} never came to its {moment} (exit code {process.poll()})"
            raise RuntimeError(msg)
        time.sleep(0.05)


def watch(process: subprocess.Popen[bytes], family: list[psutil.Process], settings: dict[str, str]) -> None:
    """Return when it is decided what the signal has done, or the time is over."""
    until = time.monotonic() + OBSERVE_S
    alone = False
    while time.monotonic() < until and titles(family):
        if process.poll() is not None and not alone:  # it is our child: reap it, as its real parent would
            alone, until = True, time.monotonic() + ORPHANED_S
        if settings["moment"] == "start" and is_up(settings["host"]):
            return
        time.sleep(0.1)


def main() -> None:
    """Start, come to the moment, let the signal come, look on."""
    settings = DEFAULTS | child.params()
    with child.phase("start"):
        process = start_host(settings["host"])
        come_to(settings["moment"], settings["host"], process)
    family = family_of(process)
    found: list[Any] = [*titles(family)]
    child.mark("fault_now", family=found)
    begin = time.monotonic()
    watch(process, family, settings)
    left: list[Any] = [*titles(family)]
    seconds = round(time.monotonic() - begin, 2)
    child.mark("aftermath", alive=left, seconds=seconds, code=process.poll(), came_up=is_up(settings["host"]))
    child.finish()


if __name__ == "__main__":
    main()
