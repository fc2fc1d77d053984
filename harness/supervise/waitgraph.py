"""Which threads can still be woken, as a fixed point over what each one waits for. Pure.

A thread is *live* if it runs, if something outside the tree can wake it (a terminal, a listening or foreign socket, a
device, a signal), if a timer will, or if a live thread can (of its own process for a futex, of the process that holds
the other end of its pipe or socket, of its child). What is not live is deadlocked: nothing that exists can wake it.

Two readings of timers. *Proved*: every timer counts as life, since the thread may do anything after it. *Suspected*: a
wait with a time-out that merely polls (a futex, a poll set) counts as the wait that it repeats; a plain sleep is work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from harness.events import ProcessKey
from harness.probes.threads import Wait, WaitKind

RUNTIME_THREAD: Final = re.compile(
    r"gloo_|pt_|grpc|event_engine|resolver|default-exec|timer_manager|nexting_|client\.poll|server\.poll|worker\.io|"
    r"worker\.user|task_event|gcs_client|global\.acc|ZMQbg|cuda|NCCL|nccl"
)
"""Names that libraries give to their own threads: these listen and beat for ever, and do no work of the program's."""
ZMQ_THREAD: Final = "ZMQbg/IO"
LISTENING: Final = "a listening socket"
"""What wakes a server that has no clients (`Wakers.outside`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wakers:
    """Who can end a wait: processes of the tree, something outside, or nobody but the own process."""

    processes: frozenset[ProcessKey] = frozenset()
    outside: str = ""
    """What outside the tree can wake it, empty if nothing can."""
    through: str = ""
    """Through what, for the explanation, for example ``pipe:[1234]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A thread with its wait and those who can end it."""

    process: ProcessKey
    wait: Wait
    wakers: tuple[Wakers, ...] = ()

    @property
    def is_main(self) -> bool:
        """Whether this is the first thread of its process."""
        return self.wait.tid == self.process.pid


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The threads of a tree."""

    nodes: tuple[Node, ...]
    names: Mapping[ProcessKey, str] = field(default_factory=dict)

    def of(self, process: ProcessKey) -> list[Node]:
        """Return the threads of a process."""
        return [node for node in self.nodes if node.process == process]


def live_nodes(
    graph: Graph, *, polling_is_life: bool, visited: frozenset[ProcessKey] = frozenset()
) -> frozenset[tuple[ProcessKey, int]]:
    """Return the threads (process and tid) that can still be woken.

    A server over ZeroMQ waits for its first client, as the coordinator of vLLM's data parallelism does for engines that
    take a minute to start. ``visited`` are those that somebody had connected to before (`with_clients`).
    """
    visited |= with_clients(graph)
    spawning = {
        child
        for node in graph.nodes
        if node.wait.kind is WaitKind.UNINTERRUPTIBLE
        for waker in node.wakers
        for child in waker.processes
    }
    live = {
        _id(node)
        for node in graph.nodes
        if _alive_by_itself(node, visited, polling_is_life=polling_is_life)
        and not (node.wait.kind is WaitKind.OPEN_TO_READ and not polling_is_life and node.process in spawning)
    }
    count = -1
    while len(live) != count:
        count = len(live)
        processes = {process for process, _ in live}
        live |= {_id(node) for node in graph.nodes if _id(node) not in live and _can_be_woken(node, live, processes)}
    return frozenset(live)


def dead_processes(
    graph: Graph, *, polling_is_life: bool, visited: frozenset[ProcessKey] = frozenset()
) -> frozenset[ProcessKey]:
    """Return the processes in which no thread can be woken any more; ``visited`` as for `live_nodes`."""
    live = {process for process, _ in live_nodes(graph, polling_is_life=polling_is_life, visited=visited)}
    return frozenset({node.process for node in graph.nodes} - live)


def culprits(graph: Graph, dead: frozenset[ProcessKey]) -> tuple[ProcessKey, ...]:
    """Return the dead processes that every other one waits for, directly or not: the place of the deadlock."""
    reaches = {process: _reach(graph, process, dead) for process in dead}
    cores = [process for process in dead if all(process in reaches[other] for other in reaches[process])]
    stopped = [process for process in cores if any(node.wait.kind is WaitKind.STOPPED for node in graph.of(process))]
    return tuple(sorted(stopped or cores))


def explain(graph: Graph, processes: Iterable[ProcessKey]) -> list[str]:
    """Return, for each process, what its threads wait for and on whom, in words."""
    lines = []
    for process in processes:
        for node in graph.of(process):
            who = f"{graph.names.get(process, '?')[:60]} (pid {process.pid}"
            thread = ")" if node.is_main else f", thread {node.wait.tid} {node.wait.name})"
            lines.append(f"{who}{thread} {_wait_in_words(node)}")
    return lines


def _wait_in_words(node: Node) -> str:
    wait = node.wait
    match wait.kind:
        case WaitKind.STOPPED:
            return "is stopped by a signal"
        case WaitKind.FUTEX:
            return f"waits for a lock or condition at {wait.address:#x}" + (" that it shares" if wait.shared else "")
        case WaitKind.CHILD:
            return "waits for a child: " + (", ".join(_targets(node)) or "none is left")
        case WaitKind.DESCRIPTORS:
            return f"is blocked in {wait.call} on {', '.join(_targets(node)) or 'nothing'}"
        case WaitKind.UNINTERRUPTIBLE:
            return f"is in uninterruptible sleep in {wait.wchan or wait.call}"
        case _:
            return f"is in {wait.call}"


def _targets(node: Node) -> list[str]:
    return [
        f"{waker.through} held by {', '.join(f'pid {key.pid}' for key in sorted(waker.processes)) or 'nobody'}"
        for waker in node.wakers
    ][:4]


def _id(node: Node) -> tuple[ProcessKey, int]:
    return node.process, node.wait.tid


def _alive_by_itself(  # noqa: PLR0911 - one case a kind
    node: Node, visited: frozenset[ProcessKey], *, polling_is_life: bool
) -> bool:
    wait = node.wait
    if not polling_is_life and not node.is_main and RUNTIME_THREAD.match(wait.name):
        # On a busy machine one that beats is runnable most of the time; its work shows as processor time.
        return node.process not in visited and _listens(node)
    if wait.kind in {WaitKind.RUNNING, WaitKind.SLEEP, WaitKind.SIGNAL, WaitKind.OPEN_TO_READ, WaitKind.OTHER}:
        return True
    if wait.kind is WaitKind.OPEN:
        return polling_is_life
    if wait.kind is WaitKind.STOPPED:
        return False
    if wait.kind is WaitKind.UNINTERRUPTIBLE:
        return not node.wakers
    if wait.timed and polling_is_life:
        return True
    return any(waker.outside for waker in node.wakers)


def _listens(node: Node) -> bool:
    return node.wait.name.startswith(ZMQ_THREAD) and any(waker.outside == LISTENING for waker in node.wakers)


def with_clients(graph: Graph) -> frozenset[ProcessKey]:
    """Return the processes that have a connection over ZeroMQ, whichever thread of the library has it."""
    return frozenset(
        node.process
        for node in graph.nodes
        if node.wait.name.startswith(ZMQ_THREAD)
        and any(waker.processes - {node.process} or waker.outside not in {"", LISTENING} for waker in node.wakers)
    )


def _can_be_woken(node: Node, live: set[tuple[ProcessKey, int]], processes: set[ProcessKey]) -> bool:
    if node.wait.kind is WaitKind.STOPPED:
        return False
    for waker in node.wakers:
        if any(other in processes for other in waker.processes - {node.process}):
            return True
        if node.process in waker.processes and any(
            process == node.process and tid != node.wait.tid for process, tid in live
        ):
            return True
    return False


def _reach(graph: Graph, start: ProcessKey, dead: frozenset[ProcessKey]) -> frozenset[ProcessKey]:
    """Return the dead processes that a process waits for, directly or not, and itself."""
    seen = {start}
    todo = [start]
    while todo:
        process = todo.pop()
        for node in graph.of(process):
            for waker in node.wakers:
                fresh = (waker.processes & dead) - seen
                seen |= fresh
                todo += fresh
    return frozenset(seen)
