"""Ends a script with a vLLM engine in several ways, and looks at what stays in /dev/shm when its processes are gone."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any, Final

import psutil

from harness import child
from scenarios.programs.startup_interrupt import come_to, family_of, start_host
from scenarios.programs.vllm_server import titles

GONE_S: Final = 15.0
"""How long the engine may take to end, in seconds."""
TIDY_S: Final = 4.0
"""How long a resource tracker may take after that, in seconds; it needs milliseconds."""
TRACKER: Final = "resource_tracker"
SHM: Final = Path("/dev/shm")  # noqa: S108 - the file system that it is about


def shm_of(family: list[psutil.Process]) -> dict[str, int]:
    """Return the entries of /dev/shm that the processes have mapped, and their sizes in bytes."""
    found = {}
    for process in family:
        try:
            maps = Path(f"/proc/{process.pid}/maps").read_text(errors="replace")
        except OSError:
            continue
        for name in set(re.findall(rf"{SHM}/(\S+)$", maps, re.MULTILINE)):
            path = SHM / name
            if path.exists():
                found[name] = path.stat().st_size
    return found


def sockets() -> list[str]:
    """Return the Unix sockets below the folder for temporary files: vLLM's ways between its processes."""
    folder = Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108 - only outside crashcart
    return sorted(path.name for path in folder.iterdir() if path.is_socket())


def main() -> None:
    """Start, let the signals come, wait until everybody is gone, look."""
    with child.phase("start"):
        process = start_host("script")
        come_to("ready", "script", process)
    family = family_of(process)
    held, found = shm_of(family), titles(family)
    listed: list[Any] = [*found]
    child.mark("fault_now", shm={**held}, family=listed, sockets=[*sockets()])
    deadline = time.monotonic() + GONE_S
    while time.monotonic() < deadline:
        process.poll()  # it is our child: reap it, as its real parent would
        if all(TRACKER in title["name"] for title in titles(family)):
            break
        time.sleep(0.05)
    until = time.monotonic() + TIDY_S
    while time.monotonic() < until and any((SHM / name).exists() for name in held):
        time.sleep(0.05)
    left = [name for name in held if (SHM / name).exists()]
    alive: list[Any] = [*titles(family)]
    child.mark("after", shm=[*left], alive=alive, sockets=[*sockets()])
    child.finish()


if __name__ == "__main__":
    main()
