"""TCP ports: one that somebody else has, and one that is open no more although its server lives."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.events import ProcessKey
from harness.spec import ClosePort, HoldPort
from harness.supervise.faults.performer import FaultError
from harness.supervise.ledger import Entry

CONNECT_S: Final = 0.2
"""How long an attempt to connect to this very machine may take, in seconds."""
SYS_PIDFD_GETFD: Final = 438
"""The same number on every architecture (Linux 5.6); it needs the right to trace the process, and stops nothing."""
TCP_CLOSE: Final = 7
TCP_LISTEN: Final = 10
_BACKLOG: Final = struct.Struct("=28xI")
"""``tcpi_sacked`` of ``struct tcp_info``, which is the longest queue of a socket that listens (net/ipv4/tcp.c)."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


class HeldPortFault:
    """Listens on the port and accepts nobody; confirmed by a connection, and by a bind that is refused."""

    def __init__(self, action: HoldPort) -> None:
        self._address = (action.host, action.port)
        self._socket: socket.socket | None = None

    @property
    def target(self) -> str:
        """``HOST:PORT``."""
        return f"{self._address[0]}:{self._address[1]}"

    @property
    def key(self) -> ProcessKey | None:
        """No process."""
        return None

    @property
    def lasts(self) -> bool:
        """Yes: the socket stays open."""
        return True

    def perform(self) -> None:
        """Take the port, unless somebody has it already."""
        held = _socket(self._address[0])
        try:
            held.bind(self._address)
            held.listen()
        except OSError as error:
            held.close()
            msg = f"{self.target} cannot be taken: {error.strerror}"
            raise FaultError(msg) from error
        self._socket = held

    def confirm(self) -> str | None:
        """Try what a program would try: to connect, and to bind."""
        if _connects(self._address) and _is_taken(self._address):
            return f"{self.target} takes connections and cannot be bound"
        return None

    def undo(self) -> str | None:
        """Give the port back."""
        if self._socket is None:
            return None
        self._socket.close()
        self._socket = None
        return f"{self.target} is free" if not _is_taken(self._address) else f"{self.target} has another owner now"


@dataclass(slots=True)
class _Listener:
    socket: socket.socket
    backlog: int
    address: tuple[str, int]


class ClosedPortFault:
    """Lets the listening sockets of a tree on one port stop listening, by descriptors that share them."""

    def __init__(self, action: ClosePort, entries: list[Entry]) -> None:
        self._port = action.port
        self._entries = entries
        self._listeners: list[_Listener] = []

    @property
    def target(self) -> str:
        """The port and the first process that has it."""
        return f"port {self._port} of {self._entries[0].name}"

    @property
    def key(self) -> ProcessKey | None:
        """The first process that has it."""
        return self._entries[0].key

    @property
    def lasts(self) -> bool:
        """Yes: nobody but us makes them listen again."""
        return True

    def perform(self) -> None:
        """Share each listening socket of the port once, and shut it down."""
        seen: set[int] = set()
        for entry in self._entries:
            for inode, number in listening(entry.key.pid, self._port):
                if inode not in seen and entry.running:
                    seen.add(inode)
                    self._listeners.append(_share(entry, number))
        if not self._listeners:
            msg = f"nobody in the tree listens on port {self._port}"
            raise FaultError(msg)
        for listener in self._listeners:
            listener.socket.shutdown(socket.SHUT_RD)

    def confirm(self) -> str | None:
        """Connections are refused, by the sockets' own state and by trying."""
        if any(_state(listener.socket) != TCP_CLOSE for listener in self._listeners):
            return None
        if any(_connects(listener.address) for listener in self._listeners):
            return None
        return f"port {self._port} refuses connections"

    def undo(self) -> str | None:
        """Let them listen again, with the queues that they had; a socket that its owners have closed is gone."""
        if not self._listeners:
            return None
        listeners, self._listeners = self._listeners, []
        deaf = []
        for listener in listeners:
            with listener.socket:
                if _state(listener.socket) != TCP_LISTEN:
                    try:
                        listener.socket.listen(listener.backlog)
                    except OSError as error:
                        deaf.append(f"{listener.address}: {error.strerror}")
        if deaf:
            msg = f"port {self._port} does not listen again: {', '.join(deaf)}"
            raise FaultError(msg)
        return f"port {self._port} listens again"


def listening(pid: int, port: int) -> Iterator[tuple[int, int]]:
    """Yield (inode, descriptor) of the TCP sockets of a process that listen on a port, in its network namespace."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in _text(f"/proc/{pid}/net/{table}").splitlines()[1:]:
            fields = line.split()
            if int(fields[3], 16) == TCP_LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(int(fields[9]))
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"{folder}/{name}"))
                if found and int(found[1]) in inodes:
                    yield int(found[1]), int(name)


def _share(entry: Entry, number: int) -> _Listener:
    descriptor = _libc.syscall(SYS_PIDFD_GETFD, entry.pidfd, number, 0)
    if descriptor < 0:
        msg = f"the socket of {entry.name} cannot be shared (pidfd_getfd): {os.strerror(ctypes.get_errno())}"
        raise FaultError(msg)
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - the only argument
    shared = socket.socket(fileno=descriptor)
    (backlog,) = _BACKLOG.unpack(shared.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BACKLOG.size))
    host, port = shared.getsockname()[:2]
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read off a socket, not bound
    return _Listener(socket=shared, backlog=backlog, address=(loopback.get(host, host), port))


def _state(shared: socket.socket) -> int:
    return shared.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def _socket(host: str) -> socket.socket:
    new = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are closing are nobody's hold
    return new


def _connects(address: tuple[str, int]) -> bool:
    with _socket(address[0]) as attempt:
        attempt.settimeout(CONNECT_S)
        return attempt.connect_ex(address) == 0


def _is_taken(address: tuple[str, int]) -> bool:
    with _socket(address[0]) as attempt:
        try:
            attempt.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
