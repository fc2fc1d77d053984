"""A machine-wide pool of GPUs, one lock file each: workers, sessions and users take turns, and nobody runs a daemon.

A lease is a ``flock``: the kernel takes it back when the last process that holds it has ended. The supervisor of a test
shares it, so that a GPU whose worker was killed is free again only when the test's processes are gone.

Whoever needs several GPUs collects them while holding the queue's lock. So only one process at a time holds some and
waits for more: no deadlock, and a test that needs eight is not overtaken for ever by those that need one.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from harness.errors import UsageError
from harness.probes.gpu import GpuDevice

FOLDER: Final = "CRASHCART_LEASES"
"""Environment variable that names another folder for the lock files; all who share GPUs must share it."""
DEFAULT: Final = "/tmp/crashcart-leases"  # noqa: S108 - a place that all users share, and that a restart empties
QUEUE: Final = "queue.lock"
POLL_S: Final = 0.02


@contextmanager
def lease(candidates: Sequence[GpuDevice], count: int, who: str) -> Iterator[tuple[GpuDevice, ...]]:
    """Wait for ``count`` of the candidates and hold them until the block ends.

    Raises:
        UsageError: If the lock files cannot be used.
    """
    folder = _folder()
    held: list[tuple[GpuDevice, int]] = []
    try:
        queue = _open(folder / QUEUE)
        try:
            fcntl.flock(queue, fcntl.LOCK_EX)
            while len(held) < count:
                held += _take(
                    folder, [one for one in candidates if one not in [gpu for gpu, _ in held]], count - len(held), who
                )
                if len(held) < count:
                    time.sleep(POLL_S)
        finally:
            os.close(queue)
        yield tuple(sorted((gpu for gpu, _ in held), key=lambda gpu: gpu.index))
    finally:
        for _, descriptor in held:
            os.ftruncate(descriptor, 0)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough: a forked child may have it open
            os.close(descriptor)


def holders(folder: Path | None = None) -> dict[str, str]:
    """Return who holds which GPU, as they wrote it down; for people only."""
    return {
        path.stem: path.read_text().strip()
        for path in sorted((folder or _folder()).glob("gpu-*.lock"))
        if path.read_text().strip()
    }


def _take(folder: Path, candidates: Sequence[GpuDevice], count: int, who: str) -> list[tuple[GpuDevice, int]]:
    taken: list[tuple[GpuDevice, int]] = []
    for gpu in candidates:
        if len(taken) == count:
            break
        descriptor = _open(folder / f"gpu-{gpu.uuid}.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()} {who}\n".encode(), 0)
        taken.append((gpu, descriptor))
    return taken


def _folder() -> Path:
    folder = Path(os.environ.get(FOLDER, DEFAULT))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"the folder of GPU leases {folder} cannot be used: {error.strerror}"
        raise UsageError(msg, hint=f"name another one in {FOLDER}") from error
    with suppress(PermissionError):  # somebody else's, who has opened it to us
        folder.chmod(0o1777)
    return folder


def _open(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        msg = f"the lock file {path} cannot be used: {error.strerror}"
        raise UsageError(msg, hint=f"name another folder in {FOLDER}") from error
    with suppress(PermissionError):
        os.fchmod(descriptor, 0o666)
    return descriptor
