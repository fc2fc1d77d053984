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
from collections.abc import Callable, Iterator, Mapping, Sequence
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
VISIBLE: Final = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "HIP_VISIBLE_DEVICES"}


@contextmanager
def lease(
    candidates: Sequence[GpuDevice],
    count: int,
    who: str,
    *,
    shared: bool = False,
    stop: Callable[[], bool] | None = None,
) -> Iterator[tuple[GpuDevice, ...]]:
    """Wait for ``count`` of the candidates and hold them until the block ends; yields none if ``stop`` cut that short.

    Args:
        candidates: Of which it does not matter which.
        count: How many.
        who: Written into the lock files, for people.
        shared: Whether others that ask for the same may have them at the same time.
        stop: Asked while it waits.

    Raises:
        UsageError: If the lock files cannot be used.
    """
    folder = _folder()
    held: list[tuple[GpuDevice, int]] = []
    try:
        queue = _open(folder / QUEUE)
        try:
            if stop is None:
                fcntl.flock(queue, fcntl.LOCK_EX)  # the kernel's own order of those who wait
                stop = bool
            while not stop() and not _lock(queue, fcntl.LOCK_EX):
                time.sleep(POLL_S)
            while len(held) < count and not stop():
                others = [one for one in candidates if one not in [gpu for gpu, _ in held]]
                held += _take(folder, others, count - len(held), who, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
                if len(held) < count:
                    time.sleep(POLL_S)
        finally:
            os.close(queue)
        yield tuple(sorted((gpu for gpu, _ in held), key=lambda gpu: gpu.index)) if len(held) == count else ()
    finally:
        for _, descriptor in held:
            os.ftruncate(descriptor, 0)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough: a forked child may have it open
            os.close(descriptor)


def visible(devices: Sequence[GpuDevice], environ: Mapping[str, str]) -> tuple[GpuDevice, ...]:
    """Return the GPUs that the environment leaves to this process, by number or by the beginning of a UUID."""
    known = [device for device in devices if device.vendor in VISIBLE]
    return tuple(device for device in known if _is_visible(device, environ.get(VISIBLE[device.vendor])))


def _is_visible(device: GpuDevice, listed: str | None) -> bool:
    if listed is None:
        return True
    names = [name.strip() for name in listed.split(",") if name.strip()]
    return any(name == str(device.index) or (len(name) > 4 and device.uuid.startswith(name)) for name in names)  # noqa: PLR2004 - "GPU-" is no UUID


def of_one_vendor(devices: Sequence[GpuDevice]) -> tuple[GpuDevice, ...]:
    """Return the GPUs of the vendor that has most of them: a program uses those of one."""
    vendors = sorted({one.vendor for one in devices}, key=lambda vendor: -sum(d.vendor == vendor for d in devices))
    return tuple(device for device in devices if device.vendor == vendors[0])


def environment_for(devices: Sequence[GpuDevice]) -> dict[str, str]:
    """Return the variables that show exactly these GPUs to a process, numbered as the driver's tools number them."""
    env: dict[str, str] = {}
    for device in devices:
        name = VISIBLE[device.vendor]
        env[name] = f"{env[name]},{device.index}" if name in env else str(device.index)
    if "CUDA_VISIBLE_DEVICES" in env:
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # without it CUDA counts the fastest first
    return env


def holders(folder: Path | None = None) -> dict[str, str]:
    """Return who holds which GPU, as they wrote it down; for people only."""
    return {
        path.stem: path.read_text().strip()
        for path in sorted((folder or _folder()).glob("gpu-*.lock"))
        if path.read_text().strip()
    }


def _take(folder: Path, candidates: Sequence[GpuDevice], count: int, who: str, how: int) -> list[tuple[GpuDevice, int]]:
    taken: list[tuple[GpuDevice, int]] = []
    for gpu in candidates:
        if len(taken) == count:
            break
        descriptor = _open(folder / f"gpu-{gpu.uuid}.lock")
        if not _lock(descriptor, how):
            os.close(descriptor)
            continue
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()} {who}\n".encode(), 0)
        taken.append((gpu, descriptor))
    return taken


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
