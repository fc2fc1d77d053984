"""Notices a declared fault by itself, and its end: ``fault_victim.py BEHAVIOUR ARGUMENT``.

Each says ``ready``, waits until it feels the fault, says ``felt``, waits until it is over, and says its nonce.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from harness import child

MIB = 1 << 20


def wait_for(condition: Callable[[], bool]) -> None:
    """Ask again and again, for 20 s at most."""
    until = time.monotonic() + 20
    while not condition():
        if time.monotonic() > until:
            sys.exit("it did not come")
        time.sleep(0.02)


def stages(is_felt: Callable[[], bool]) -> None:
    """Go through the stages; at first the fault must not be felt."""
    if is_felt():
        sys.exit("felt before it was there")
    child.mark("ready")
    wait_for(is_felt)
    child.mark("felt")
    wait_for(lambda: not is_felt())
    child.finish()


def number_of(action: Callable[[], object]) -> int:
    """Return the error number of an action, 0 if it works."""
    try:
        action()
    except OSError as error:
        return error.errno or -1
    return 0


def shm(folder: str) -> None:
    """Write a megabyte into a folder."""
    file = Path(folder) / "mine"

    def write() -> None:
        try:
            file.write_bytes(bytes(MIB))
        finally:
            file.unlink()

    stages(lambda: number_of(write) == errno.ENOSPC)


def server(port: str) -> None:
    """Serve on a port and connect to it."""
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=7)

    def serve() -> None:
        while True:
            with contextlib.suppress(OSError):
                listener.accept()[0].close()
                continue
            time.sleep(0.01)

    threading.Thread(target=serve, daemon=True).start()

    def connect() -> None:
        socket.create_connection(("127.0.0.1", int(port)), timeout=1).close()

    stages(lambda: number_of(connect) == errno.ECONNREFUSED)


def binder(port: str) -> None:
    """Bind a port that is free later on."""

    def bind() -> None:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", int(port)))

    wait_for(lambda: number_of(bind) == errno.EADDRINUSE)
    child.mark("felt")
    wait_for(lambda: not number_of(bind))
    child.finish()


def memory(megabytes: str) -> None:
    """Map memory."""
    stages(lambda: number_of(lambda: mmap.mmap(-1, int(megabytes) * MIB).close()) == errno.ENOMEM)


def disk(folder: str) -> None:
    """Write half a megabyte past the page cache; at 1 MiB/s that takes half a second."""
    file = os.open(Path(folder) / "mine", os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    buffer = mmap.mmap(-1, MIB // 2)

    def is_slow() -> bool:
        before = time.monotonic()
        os.pwrite(file, buffer, 0)
        return time.monotonic() - before > 0.3

    stages(is_slow)


def clock(seconds: str) -> None:
    """Look at the clock all the time; a stop shows as a gap."""
    child.mark("ready")
    last, until = time.monotonic(), time.monotonic() + 20
    while (now := time.monotonic()) - last < float(seconds):
        if now > until:
            sys.exit("no gap came")
        last = now
        time.sleep(0.01)
    child.mark("felt")
    child.finish()


def sleeper(_: str) -> None:
    """Say ready and stay."""
    child.mark("ready")
    time.sleep(60)


{function.__name__: function for function in (shm, server, binder, memory, disk, clock, sleeper)}[sys.argv[1]](
    sys.argv[2]
)
