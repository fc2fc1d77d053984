"""Lets a Ray task or actor take memory until the node counts as full, and records what its caller is told.

The threshold is put a little above what the machine uses now, so that the memory monitor of Ray acts as it does on a
full node while there is plenty left. The stand-in for the kernel's killer is a SIGKILL that the supervisor sends.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

from harness import child

MIB: Final = 1 << 20
MARGIN_MIB: Final = 2304
"""Room between what is used before Ray starts and the threshold; Ray itself takes about 700 MiB."""
HOG_MIB: Final = 3584
STEP_MIB: Final = 128
SPARE_MIB: Final = 1024
"""What must be left of the machine's memory at the end."""
KILLED_S: Final = 3.0
"""How long the stand-in has to kill a task, in seconds."""
ANSWER_S: Final = 25.0
"""How long the caller waits, in seconds; a run of the hog takes about three."""
DEFAULTS: Final = {"unit": "task", "threshold": "low", "retries": "0", "killer": "monitor"}


def hog(mib: int) -> int:
    """Take that much memory and keep it for a moment; return how much it was, in MiB."""
    child.mark("hog_running", process=os.getpid())
    blocks = []
    for _ in range(0, mib, STEP_MIB):
        block = bytearray(STEP_MIB * MIB)
        block[::4096] = b"x" * len(block[::4096])  # memory that was never written is not used
        blocks.append(block)
        time.sleep(0.02)
    time.sleep(0.5 if mib else KILLED_S)
    return STEP_MIB * len(blocks)


def set_threshold(threshold: str) -> bool:
    """Set Ray's threshold for a full node; return whether the machine has the memory for this at all."""
    from ray._common.utils import get_system_memory
    from ray._private.utils import get_used_memory

    used, total = get_used_memory(), get_system_memory()
    child.mark("memory", used_mib=used // MIB, total_mib=total // MIB)
    if total - used < (HOG_MIB + SPARE_MIB) * MIB:
        return False
    flags = {"RAY_memory_monitor_refresh_ms": "100"}
    if threshold == "low":
        flags["RAY_memory_usage_threshold"] = f"{(used + MARGIN_MIB * MIB) / total:.4f}"
    os.environ.update(flags)
    return True


def call(settings: dict[str, str]) -> None:
    """Make the call, and record what comes back."""
    import ray

    class Hog:
        def hog(self, mib: int) -> int:
            return hog(mib)

    mib = HOG_MIB if settings["killer"] == "monitor" else 0
    retries = int(settings["retries"])
    reference: Any
    if settings["unit"] == "task":
        reference = ray.remote(max_retries=retries)(hog).remote(mib)
    else:
        actor = ray.remote(max_restarts=retries, max_task_retries=retries)(Hog).remote()
        reference = actor.hog.remote(mib)
    try:
        with child.phase("call"):
            answer = ray.get(reference, timeout=ANSWER_S)
    except ray.exceptions.RayError as error:
        child.observe_error("call_failed", error)
    else:
        child.mark("answered", mib=answer)


def main() -> None:
    """Run the cell."""
    settings = DEFAULTS | child.params()
    if not set_threshold(settings["threshold"]):
        child.mark("too_little_memory")
    else:
        import ray

        from scenarios.programs.local_ray import local_ray

        child.mark("versions", ray=ray.__version__)
        with local_ray(logical_cpus=2):
            call(settings)
    child.finish()


if __name__ == "__main__":
    main()
