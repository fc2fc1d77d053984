"""The kernel's process-event connector: every fork and exit of the machine, in order, with exit status.

Source: drivers/connector/cn_proc.c and include/uapi/linux/cn_proc.h. Needs the initial network namespace; older kernels
need CAP_NET_ADMIN, too. Where the kernel does not grant it, it may just stay silent, so a subscription is tried on a
child of ours.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_NETLINK_CONNECTOR: Final = 11
_CN_IDX_PROC: Final = 1
_LISTEN: Final = 1
_FORK: Final = 0x1
_EXIT: Final = 0x80000000
_HEADER: Final = 36
"""Length of struct nlmsghdr and struct cn_msg before the event."""
TELL_S: Final = 0.5
"""How long an event may take to come, in seconds, before the connector counts as silent."""
_BUFFER: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Forked:
    """A process (not a thread) was forked."""

    pid: int
    parent: int


@dataclass(frozen=True, slots=True)
class Exited:
    """A process has ended; ``status`` is its wait status."""

    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class Overflowed:
    """Events were lost: the socket's buffer had been full."""


class ConnectorUnavailableError(Exception):
    """The kernel does not grant the connector here; the message says why."""


class Connector:
    """A subscription to forks and exits of processes.

    Args:
        buffer: Bytes of events that the kernel keeps until they are read; what comes then is lost, and said to be.

    Raises:
        ConnectorUnavailableError: If the kernel does not grant it.
    """

    def __init__(self, buffer: int = _BUFFER) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_CONNECTOR)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            self._socket.bind((0, _CN_IDX_PROC))
            self._socket.send(_subscription())
        except OSError as error:
            msg = f"the kernel refuses the process-event connector: {os.strerror(error.errno or 0)}"
            raise ConnectorUnavailableError(msg) from error
        self._socket.setblocking(False)  # noqa: FBT003 - the library's signature
        if not self._tells():
            self._socket.close()
            msg = "the connector stays silent: this is not the initial network and process namespace"
            raise ConnectorUnavailableError(msg)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def read(self) -> Iterator[Forked | Exited | Overflowed]:
        """Yield what has happened since the last call."""
        while True:
            try:
                data = self._socket.recv(4096)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    yield Overflowed()
                    continue
                raise
            event = parse(data)
            if event is not None:
                yield event

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()

    def _tells(self) -> bool:
        """Whether a child of ours is told of; a subscription with a filter gets no acknowledgement to wait for."""
        child = os.posix_spawnp("true", ["true"], {})
        os.waitpid(child, 0)
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        until = time.monotonic() + TELL_S
        while (left := until - time.monotonic()) > 0:
            poll.poll(left * 1000)
            if any(isinstance(event, Exited) and event.pid == child for event in self.read()):
                return True
        return False


def parse(data: bytes) -> Forked | Exited | None:
    """Return the event of a datagram, or ``None`` for threads and other kinds."""
    (what,) = struct.unpack_from("=I", data, _HEADER)
    if what == _FORK:
        _, parent, pid, group = struct.unpack_from("=4I", data, _HEADER + 16)
        return Forked(pid, parent) if pid == group else None
    if what == _EXIT:
        pid, group, status = struct.unpack_from("=3I", data, _HEADER + 16)
        return Exited(pid, status) if pid == group else None
    return None


def probe() -> str | None:
    """Return why the connector cannot be used here, or ``None`` if it can."""
    try:
        Connector().close()
    except ConnectorUnavailableError as error:
        return str(error)
    return None


def _subscription() -> bytes:
    body = struct.pack("=II", _LISTEN, _FORK | _EXIT)
    message = struct.pack("=IIIIHH", _CN_IDX_PROC, 1, 0, 0, len(body), 0) + body
    return struct.pack("=IHHII", 16 + len(message), 3, 0, 0, 0) + message
