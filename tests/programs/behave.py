"""A child program that behaves as its parameter says; the real misbehaviour, without any runtime."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from harness import child


def healthy() -> None:
    """Work for a moment with a declared phase and say the nonce."""
    with child.phase("work"):
        child.mark("worked", amount=3)
    child.finish()


def silent() -> None:
    """End with code 0 but without the nonce."""
    child.mark("worked", amount=3)


def grandchild_segv() -> None:
    """A grandchild dies of SIGSEGV and is reaped by its own parent, which tells nobody."""
    script = "import os, time; time.sleep(0.2); os.kill(os.getpid(), 11)"
    middle = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {script!r}])"
    subprocess.run([sys.executable, "-c", middle], check=False)
    child.finish()


def escapee() -> None:
    """Leave a double-forked process in a session of its own, with closed descriptors and a cleared environment."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 64)
            os.execve("/bin/sleep", ["innocent", "600"], {})  # noqa: S606 - no shell wanted
        os._exit(0)
    os.wait()
    child.finish()


def stuck() -> None:
    """Never end, and ignore SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child.mark("stuck")
    time.sleep(600)


def hung() -> None:
    """Wait within a declared phase for something that nobody can ever send."""
    reader, _writer = os.pipe()
    with child.phase("wait"):
        os.read(reader, 1)


def leak_shm() -> None:
    """Die with a segment in /dev/shm that nobody will unlink."""
    with Path(f"/dev/shm/psm_crashcart_{os.getpid()}").open("wb+") as segment:
        segment.truncate(1 << 20)
        time.sleep(0.8)
        os.kill(os.getpid(), signal.SIGKILL)


def victim() -> None:
    """Wait for a declared fault on a child and report what was seen of it."""
    process = subprocess.Popen(["/bin/sleep", "600"])
    child.mark("ready")
    code = process.wait(timeout=20)
    child.mark("victim_gone", code=code)
    child.finish()


def nester() -> None:
    """Make a cgroup of its own below the one that a fault moves it to, as a container runtime does."""
    child.mark("ready")
    until = time.monotonic() + 10
    while time.monotonic() < until:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if path.endswith("-slow"):
                mount = Path("/sys/fs/cgroup", controllers)
                (mount / path.lstrip("/") / "nested").mkdir()
                child.finish()
                return
        time.sleep(0.01)


def crash() -> None:
    """Die of a real invalid access in C, without Python seeing it."""
    ctypes.string_at(0)


def chatty() -> None:
    """Record observations until there is no room for more."""
    for number in range(200):
        child.mark("said", text="x" * 1000, number=number)
        time.sleep(0.02)
    child.finish()


BEHAVIOURS: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (healthy, silent, grandchild_segv, escapee, stuck, hung, leak_shm, victim, nester, crash, chatty)
}

if __name__ == "__main__":
    BEHAVIOURS[child.params()["behaviour"]]()
