"""Which socket is the other end of a socket on this machine.

Unix sockets: the kernel's sock_diag (``man 7 sock_diag``, UDIAG_SHOW_PEER). TCP: pairs of addresses in /proc/net/tcp
and tcp6. Both speak of this network namespace only.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

from harness.probes.proc import read_bytes
from harness.probes.threads import read_descriptors

_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST_DUMP: Final = 0x301
_NETLINK_SOCK_DIAG: Final = 4
_UDIAG_SHOW_PEER: Final = 4
_UNIX_DIAG_PEER: Final = 2
_NLMSG_DONE: Final = 3
_NLMSG_ERROR: Final = 2
_LISTEN: Final = 10
_TCP_LISTEN: Final = "0A"


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketTable:
    """Peers and listeners by inode."""

    peers: dict[int, int]
    listening: frozenset[int]


def read_sockets() -> SocketTable:
    """Read all unix and TCP sockets of this network namespace."""
    peers, listening = _unix()
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        more, waiting = _tcp(read_bytes(path).decode())
        peers |= more
        listening |= waiting
    return SocketTable(peers=peers, listening=frozenset(listening))


def listening_on(pid: int) -> list[str]:
    """Return the addresses, ``HOST:PORT``, on which a process has TCP sockets that listen, in its network namespace."""
    inodes = {
        descriptor.target.removeprefix("socket:[").rstrip("]")
        for descriptor in read_descriptors(pid)
        if descriptor.target.startswith("socket:[")
    }
    found = set()
    for table in ("tcp", "tcp6") if inodes else ():
        for line in read_bytes(f"/proc/{pid}/net/{table}").decode().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _TCP_LISTEN and fields[9] in inodes:
                found.add(_address(fields[1]))
    return sorted(found)


def _address(field: str) -> str:
    """Return an address of /proc/net/tcp in its usual form; its words are in the order of the machine."""
    words, _, port = field.partition(":")
    packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    host = socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)  # noqa: PLR2004 - IPv4
    return f"{f'[{host}]' if ':' in host else host}:{int(port, 16)}"


def _tcp(text: str) -> tuple[dict[int, int], set[int]]:
    by_pair: dict[tuple[str, str], int] = {}
    by_address: dict[str, int] = {}
    listening: set[int] = set()
    for line in text.splitlines()[1:]:
        fields = line.split()
        local, remote, state, inode = fields[1], fields[2], fields[3], int(fields[9])
        if state == _TCP_LISTEN:
            listening.add(inode)
            by_address[local] = inode
        by_pair[local, remote] = inode
    peers = {
        inode: by_pair[remote, local] or _backlog(remote, by_address)
        for (local, remote), inode in by_pair.items()
        if inode and (remote, local) in by_pair
    }
    return {inode: peer for inode, peer in peers.items() if peer}, listening


def _backlog(address: str, by_address: dict[str, int]) -> int:
    """Return the listener in whose backlog a connection waits to be accepted; until then it has no inode of its own."""
    host, _, port = address.partition(":")
    return by_address.get(address) or by_address.get(f"{'0' * len(host)}:{port}", 0)


def _unix() -> tuple[dict[int, int], set[int]]:
    request = struct.pack(
        "=IHHIIBBHIIIII", 40, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0,
        socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _UDIAG_SHOW_PEER, 0, 0,
    )  # fmt: skip
    peers: dict[int, int] = {}
    listening: set[int] = set()
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as channel:
            channel.settimeout(1.0)
            channel.send(request)
            while not _parse(channel.recv(1 << 18), peers, listening):
                pass
    except OSError:
        return {}, set()
    return peers, listening


def _parse(data: bytes, peers: dict[int, int], listening: set[int]) -> bool:
    """Read one netlink datagram; true when it was the last one."""
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if kind in {_NLMSG_DONE, _NLMSG_ERROR} or length < 16:  # noqa: PLR2004 - a header's length
            return True
        _family, _type, state, _, inode = struct.unpack_from("=BBBBI", data, at + 16)
        if state == _LISTEN:
            listening.add(inode)
        attribute = at + 32
        while attribute + 4 <= at + length:
            size, name = struct.unpack_from("=HH", data, attribute)
            if name == _UNIX_DIAG_PEER and size >= 8:  # noqa: PLR2004 - header and one word
                peers[inode] = struct.unpack_from("=I", data, attribute + 4)[0]
            attribute += max(4, (size + 3) & ~3)
        at += (length + 3) & ~3
    return False
