"""GPU memory by process, as the driver's own tool tells it, for programs that have to say who holds what and how long.

A program cannot import crashcart's probes, and must not hold the library of the driver open itself.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Collection
from typing import Final

QUERY: Final = ("nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")


def held() -> dict[int, int] | None:
    """Return the MiB that each process holds over all GPUs; ``None`` where there is no nvidia-smi."""
    try:
        done = subprocess.run(QUERY, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return parse(done.stdout)


def parse(text: str) -> dict[int, int]:
    """Return what the tool printed: a pid and its MiB a line, once per GPU; lines without a figure count as nothing."""
    found: dict[int, int] = {}
    for line in text.splitlines():
        pid, _, mib = line.partition(",")
        if pid.strip().isdecimal():
            found[int(pid)] = found.get(int(pid), 0) + (int(mib) if mib.strip().isdecimal() else 0)
    return found


def wait_released(pids: Collection[int], seconds: float) -> float | None:
    """Wait until none of the processes is listed any more, and return how long that took; ``None`` if it did not."""
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        now = held()
        if now is None or not now.keys() & set(pids):
            return round(time.monotonic() - begin, 2)
        time.sleep(0.2)
    return None
