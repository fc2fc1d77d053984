"""A tree whose processes watch each other's threads for a tracer, as one that is stopped cannot watch itself.

Arguments: for how many seconds at most, and optionally ``hang``: then one more process waits for what can never come.
Prints ``ready``, then ``traced AT`` (monotonic seconds) for each process that has seen a tracer, and how many looks
there were.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

WATCHERS = 3


def traced(pids: Iterable[int]) -> bool:
    """Whether any thread of these processes has a tracer."""
    for pid in pids:
        with suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                if "TracerPid:\t0\n" not in (task / "status").read_text():
                    return True
    return False


def watch(group: int, end: float) -> None:
    """Look at the processes of the group, again and again, and say what was seen."""
    pids: set[int] = set()
    looks, at = 0, 0.0
    while time.monotonic() < end:
        if looks % 100 == 0:
            numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
            pids = {pid for pid in numbers if _group(pid) == group}
        looks += 1
        if not at and traced(pids):
            at = time.monotonic()
            end = min(end, at + 1)
        time.sleep(0.002)
    os.write(1, f"traced {at:.6f}\n".encode() if at else b"")
    os.write(1, f"looks {looks}\n".encode())


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def main() -> None:
    os.setpgid(0, 0)
    end = time.monotonic() + float(sys.argv[1])
    children = []
    for number in range(WATCHERS + 1):
        child = os.fork()
        if child:
            children.append(child)
        elif number < WATCHERS:
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
            watch(os.getppid(), end)
            sys.exit()
        elif sys.argv[2:] == ["hang"]:
            reader, _writer = os.pipe()
            os.read(reader, 1)
        else:
            sys.exit()
    os.write(1, b"ready\n")
    for child in children[:WATCHERS]:
        os.waitpid(child, 0)
    os.kill(children[-1], 9)


if __name__ == "__main__":
    main()
