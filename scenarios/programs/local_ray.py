"""A Ray instance of this program's own: local, small, in a folder of the attempt."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from harness import child

OBJECT_STORE_BYTES: Final = 80 * 1024 * 1024
"""Size of the object store; Ray refuses less than 75 MiB."""


@contextmanager
def local_ray(*, logical_cpus: int, logical_gpus: int = 0) -> Iterator[None]:
    """Start a local Ray for the block and shut it down after it, whether it failed or not.

    Never joins a cluster that is already on the machine, whatever ``RAY_ADDRESS`` says. CPUs and GPUs are logical:
    there may be more than the machine has.
    """
    import ray

    folder = child.scratch() / "r"
    folder.mkdir(parents=True, exist_ok=True)
    token = _token_file(folder)
    with child.phase("ray_start"):
        ray.init(
            address="local",
            num_cpus=logical_cpus,
            num_gpus=logical_gpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=str(folder),
        )
    try:
        yield
    finally:
        with child.phase("ray_stop"):
            ray.shutdown()
        token.unlink()
        keep_logs_only(folder)


def leased_gpus() -> int:
    """Return how many GPUs the supervisor has leased to this program, which sees no others; 0 on a machine without."""
    if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd")):
        return 0  # what the variables say is the user's, and no lease
    listed = os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("HIP_VISIBLE_DEVICES") or ""
    return len(list(filter(None, listed.split(","))))


def keep_titles() -> None:
    """Let the processes that an actor spawns take titles; call it in the actor, before it starts any.

    setproctitle finds the arguments of a process right before the first variable of its environment, and gives up
    without a word if that one was changed or removed before. Ray orders an actor's environment anew each time, and vLLM
    removes some variables: one start in sixty had no titles. A variable that nobody knows stands first from here on.
    Not for a process that forks its children: they have this environment, which lies elsewhere in memory now.
    """
    kept = dict(os.environ)
    os.environ.clear()
    os.environ["CRASHCART_FIRST"] = "so that processes can take titles"
    os.environ.update(kept)


def _token_file(folder: Path) -> Path:
    """Give this Ray an authentication token of its own: without one, Ray leaves a new one in the home folder."""
    path = folder / "token"
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
    return path


def keep_logs_only(folder: Path) -> None:
    """Remove sockets and runtime files of stopped sessions; the logs stay as evidence."""
    for session in folder.glob("session_*"):
        if session.is_symlink():
            continue
        for entry in session.iterdir():
            if entry.name != "logs":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
