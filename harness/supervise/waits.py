"""Builds the wait graph of a tree from /proc: who holds the other end of what each thread waits for."""

from __future__ import annotations

import re
import signal
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harness.events import ProcessKey
from harness.probes import proc
from harness.probes.sockets import SocketTable, read_sockets
from harness.probes.threads import DELETED, Descriptor, Wait, WaitKind, read_descriptors, read_waits
from harness.supervise.waitgraph import LISTENING, Graph, Node, Wakers

INODE = re.compile(r"(pipe|socket):\[(\d+)\]")
SETS = frozenset({"poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "epoll_pwait2"})
FORKS = frozenset({"vfork", "clone", "clone3"})


@dataclass(slots=True)
class _Tree:
    """Facts of one moment, read once and shared by all threads."""

    members: Mapping[int, ProcessKey]
    parents: Mapping[ProcessKey, int]
    sockets: SocketTable
    holders: dict[str, set[tuple[ProcessKey, bool]]] = field(default_factory=lambda: defaultdict(set))
    """For each pipe, socket or eventfd: the processes that have it open, and whether for writing."""
    descriptors: dict[tuple[ProcessKey, int], Descriptor] = field(default_factory=dict)


def read_graph(members: Mapping[ProcessKey, str]) -> Graph:
    """Return the wait graph of the processes (with their titles) that are given; nothing is stopped for it."""
    stats = {key: proc.read_stat(key.pid) for key in members}
    parents = {key: stat.ppid for key, stat in stats.items() if stat is not None and stat.start == key.start}
    alive = {key.pid: key for key in parents}
    tree = _Tree(members=alive, parents=parents, sockets=read_sockets())
    for key in parents:
        for descriptor in read_descriptors(key.pid):
            tree.holders[_object(descriptor)].add((key, descriptor.writable))
            tree.descriptors[key, descriptor.number] = descriptor
    nodes = [
        Node(process=key, wait=wait, wakers=(*wakers, *_by_signal(tree, key, wait, wakers)))
        for key in parents
        for wait in read_waits(key.pid)
        for wakers in [_wakers(tree, key, wait)]
    ]
    return Graph(nodes=tuple(nodes), names=members)


def outside_holders(graph: Graph, processes: Iterable[ProcessKey], members: Iterable[int]) -> str | None:
    """Return which process outside the tree holds the other end of what these processes wait for, or ``None``.

    Looks through the descriptors of every process of the machine that may be read; for a suspicion only.
    """
    wanted = {waker.through for key in processes for node in graph.of(key) for waker in node.wakers if waker.through}
    inside = set(members)
    for pid in proc.all_pids():
        if pid in inside:
            continue
        for descriptor in read_descriptors(pid):
            if _object(descriptor) in wanted:
                return f"pid {pid} {proc.read_title(pid)[:60]} holds {_object(descriptor)}"
    return None


def _object(descriptor: Descriptor) -> str:
    """Name what is open so that two that have it open can be told: a name that is gone may be another's by now."""
    if "eventfd" in descriptor.target:
        return f"eventfd {descriptor.detail}"
    return f"{descriptor.target} {descriptor.detail}" if descriptor.target.endswith(DELETED) else descriptor.target


def _wakers(tree: _Tree, key: ProcessKey, wait: Wait) -> tuple[Wakers, ...]:
    match wait.kind:
        case WaitKind.FUTEX:
            return (_futex(tree, key, wait),)
        case WaitKind.CHILD:
            return (_children(tree, key),)
        case WaitKind.UNINTERRUPTIBLE if wait.call in FORKS:
            return (_children(tree, key),)
        case WaitKind.DESCRIPTORS:
            return tuple(_descriptor(tree, key, wait, number) for number in wait.descriptors)
        case _:
            return ()


def _by_signal(tree: _Tree, key: ProcessKey, wait: Wait, wakers: tuple[Wakers, ...]) -> tuple[Wakers, ...]:
    """An event loop also waits for the signals that it handles: those that people send, and those of its children.

    It is one if it waits for a set of descriptors, or for a pipe to itself. Who reads from somebody else and handles
    SIGTERM, as sort does to remove its files, is none.
    """
    loop = wait.call in SETS or all(waker.processes == {key} for waker in wakers)
    if wait.tid != key.pid or wait.kind is not WaitKind.DESCRIPTORS or not loop:
        return ()
    if proc.handles_any(key.pid, proc.REQUESTS):
        return (Wakers(outside="a signal that it handles"),)
    if proc.handles_any(key.pid, [signal.SIGCHLD]):
        return (_children(tree, key),)
    return ()


def _futex(tree: _Tree, key: ProcessKey, wait: Wait) -> Wakers:
    sharers = {key}
    if wait.shared and (mapped := _shared_mapping(key.pid, wait.address)):
        sharers |= {other for other in tree.parents if mapped.encode() in proc.read_bytes(f"/proc/{other.pid}/maps")}
    return Wakers(processes=frozenset(sharers), through=f"futex {wait.address:#x}")


def _shared_mapping(pid: int, address: int) -> str:
    """Return the file, with its device and inode, that a shared mapping at an address belongs to."""
    for line in proc.read_bytes(f"/proc/{pid}/maps").decode(errors="replace").splitlines():
        span, rights, _offset, device, inode, *_path = line.split()
        low, high = (int(end, 16) for end in span.split("-"))
        if low <= address < high:
            return f"{device} {inode}" if rights.endswith("s") and inode != "0" else ""
    return ""


def _children(tree: _Tree, key: ProcessKey) -> Wakers:
    children = frozenset(child for child, ppid in tree.parents.items() if ppid == key.pid)
    return Wakers(processes=children, through="child", outside="" if children else "a child that is not in the tree")


def _descriptor(tree: _Tree, key: ProcessKey, wait: Wait, number: int) -> Wakers:  # noqa: PLR0911 - one case a kind
    descriptor = tree.descriptors.get((key, number))
    if descriptor is None:
        return Wakers(outside="a descriptor that cannot be read")
    target = descriptor.target
    if target.startswith("pipe:"):
        return _pipe(tree, key, wait, descriptor)
    if target.startswith("socket:"):
        return _socket(tree, descriptor)
    if wait.call.startswith("mq_"):
        return _queue(tree, descriptor)
    if "eventfd" in target:
        holders = frozenset({holder for holder, _ in tree.holders[_object(descriptor)]} | {key})
        return Wakers(processes=holders, through=_object(descriptor))
    if "timerfd" in target:
        if descriptor.detail == "armed":
            return Wakers(outside="a timer", through="timerfd")
        return Wakers(processes=frozenset({key}), through="timerfd, not armed")
    if "pidfd" in target and descriptor.detail.isdigit() and int(descriptor.detail) in tree.members:
        return Wakers(processes=frozenset({tree.members[int(descriptor.detail)]}), through=f"pidfd {descriptor.detail}")
    return Wakers(outside=target, through=target)


def _pipe(tree: _Tree, key: ProcessKey, wait: Wait, descriptor: Descriptor) -> Wakers:
    """A reader is woken by whoever holds the pipe for writing, or lets go of it; a blocked writer by a reader."""
    writing = wait.call.startswith(("write", "pwrite", "send"))
    ends = {holder for holder, writable in tree.holders[descriptor.target] if writable != writing}
    return Wakers(processes=frozenset(ends - {key}) or frozenset({key} & ends), through=descriptor.target)


def _queue(tree: _Tree, descriptor: Descriptor) -> Wakers:
    """A message queue without a name is only for those who have it open, for either direction."""
    through = _object(descriptor)
    if not descriptor.target.endswith(DELETED):
        return Wakers(outside="a message queue that anybody may open", through=through)
    return Wakers(processes=frozenset(holder for holder, _ in tree.holders[through]), through=through)


def _socket(tree: _Tree, descriptor: Descriptor) -> Wakers:
    found = INODE.search(descriptor.target)
    inode = int(found[2]) if found else 0
    if inode in tree.sockets.listening:
        return Wakers(outside=LISTENING, through=descriptor.target)
    peer = tree.sockets.peers.get(inode)
    holders = {holder for holder, _ in tree.holders.get(f"socket:[{peer}]", ())}
    if not peer or not holders:
        return Wakers(outside="a socket whose other end is outside", through=descriptor.target)
    return Wakers(processes=frozenset(holders), through=f"socket:[{peer}]")
