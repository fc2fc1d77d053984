"""Decides when a tree hangs, without a fixed time-out: work is outstanding, and nothing can move or does move.

Two sources of truth (design.md, section 4). *Proved*: nothing that exists can wake a process any more (`waitgraph`),
confirmed by two looks between which none of its threads was scheduled. *Declared*: a program has said that work is
outstanding (a phase), and in the part of the tree that it waits for nothing has moved for a while. Polling trees that
declared nothing are reported as suspected only, and nobody is ended for it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final

from harness.events import Event, Observed, PhaseMarked, ProcessKey, Suspected
from harness.probes.threads import WaitKind
from harness.record import Sink
from harness.roles import role
from harness.supervise.activity import Activity
from harness.supervise.ledger import Ledger
from harness.supervise.waitgraph import Graph, Node, culprits, dead_processes, explain, with_clients
from harness.supervise.waits import outside_holders, read_graph

INTERVAL_S: Final = 1.0
COST_SHARE: Final = 0.01
"""Looking may take this share of one processor; a larger tree is looked at less often."""
CONFIRM_S: Final = 3.0
"""A deadlock must look the same for this long, in seconds, without a single context switch."""
STUCK_S: Final = 8.0
"""How long a process must be stopped, or a thread uninterruptible, in seconds."""
QUIET_S: Final = 8.0
"""How long nothing may move under a declared phase, or in a polling tree, in seconds."""
GAP_S: Final = 5.0
"""After a gap this long between two looks this process itself had been paused, and all clocks begin anew."""
SPIN: Final = 1.25
"""So many times `QUIET_S` a process may compute without reading or writing a byte."""
IDLE_CPU: Final = 0.05
"""Processors that heartbeats may take without counting as movement."""
IDLE_BYTES: Final = 64 * 1024
"""Bytes in `QUIET_S` that heartbeats may move without counting as movement, per process."""
BUSY_CPU: Final = 0.5
ROUNDS_PER_S: Final = 5.0
"""A main thread that sleeps and is woken so often tries again and again; one that sleeps longer does what it said."""
BACKGROUND: Final = re.compile(
    r".*(gcs_server|raylet/raylet|ray/_private|ray/dashboard|ray/autoscaler|resource_tracker|ray::(IDLE|\w+Agent$))"
)
"""Daemons that beat for ever, whatever the work does."""


@dataclass(slots=True)
class _Since:
    """Something that has looked the same since a moment."""

    mark: object
    at: float


class HangDetector:
    """Looks at the tree of a ledger now and then, and records what it suspects, each suspicion once.

    The look itself is taken in a thread, so that reading a large tree never delays the supervisor's loop, which must
    see children that live for milliseconds. The thread touches nothing but this object's own clocks.
    """

    def __init__(
        self,
        ledger: Ledger,
        sink: Sink,
        gpu_busy: Callable[[frozenset[ProcessKey], float], str] = lambda *_: "",
        *,
        quiet_s: float = QUIET_S,
    ) -> None:
        self._ledger = ledger
        self._sink = sink
        self._gpu_busy = gpu_busy
        """Says which busy GPUs some processes hold; may be asked in another thread."""
        self._quiet_s = quiet_s
        self._activity = Activity(quiet_s)
        self._next = time.monotonic() + INTERVAL_S
        self._last = time.monotonic()
        self._since: dict[str, _Since] = {}
        self._phases: dict[tuple[int, str], float] = {}
        self._retries: set[tuple[int, str, float]] = set()
        """Phases in which their process was seen to try again and again: the pid, the name, and their begin."""
        self._cones: dict[tuple[int, str, float], frozenset[ProcessKey]] = {}
        """What each phase, with its begin, waited for at the last look."""
        self._waiter: ProcessKey | None = None
        """Whose declared phase is being looked at."""
        self._moved = time.monotonic()
        self._count = 0
        self._running: frozenset[ProcessKey] = frozenset()
        self._names: Mapping[ProcessKey, str] = {}
        self._said: set[tuple[str, tuple[ProcessKey, ...]]] = set()
        self._visited: frozenset[ProcessKey] = frozenset()
        """Servers that have had a client."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hang")
        self._job: Future[list[tuple[Suspected, bool]]] | None = None
        self._new: list[tuple[Suspected, bool]] = []
        self.found: Suspected | None = None
        """The first suspicion that is proved or declared."""

    def on_event(self, event: Event) -> None:
        """Note what the program declares; every declaration is progress."""
        if isinstance(event, PhaseMarked):
            if event.state == "begin":
                self._phases[event.pid, event.phase] = time.monotonic()
            else:
                self._phases.pop((event.pid, event.phase), None)
        if isinstance(event, (PhaseMarked, Observed)):
            self._moved = time.monotonic()

    def tick(self, now: float) -> None:
        """Record what the last look found, and begin another one if it is time."""
        if self._job is not None and self._job.done():
            for event, weak in self._job.result():
                self._sink(event)
                if not weak and self.found is None:
                    self.found = event
            self._job = None
        if now < self._next or self._job is not None:
            return
        if now - self._last > GAP_S + (self._next - self._last):
            self._begin_anew(now)
        self._last, self._next = now, now + INTERVAL_S
        entries = self._ledger.running()
        if self._came_or_went(frozenset(entry.key for entry in entries)):
            self._moved = now
        if entries:
            self._job = self._thread.submit(self._look, {entry.key: entry.name for entry in entries}, now)

    def _came_or_went(self, running: frozenset[ProcessKey]) -> bool:
        """Whether there are new processes, or fewer, whose parents are no daemons that do this for ever.

        Who waits for one that has ended is about to be woken, however long that one has been at work.
        """
        everybody = self._ledger.entries
        fresh = list(islice(everybody.values(), self._count, None))
        gone = [everybody[key] for key in self._running - running]
        self._count, self._running = len(everybody), running
        parents = [everybody.get(one.parent) if one.parent is not None else None for one in (*fresh, *gone)]
        return any(parent is None or not BACKGROUND.match(parent.name) for parent in parents)

    def close(self) -> None:
        """Wait for a look under way."""
        self._thread.shutdown()

    def _begin_anew(self, now: float) -> None:
        self._activity.forget()
        self._since.clear()
        self._moved = now

    def _look(self, running: Mapping[ProcessKey, str], now: float) -> list[tuple[Suspected, bool]]:
        began = time.thread_time()
        self._new = []
        self._names = running
        graph = read_graph(running)
        self._activity.look(list(running), now, graph)
        self._stopped(graph, now)
        self._uninterruptible(graph, now)
        proved = self._deadlock(graph, running, now)
        if not proved:
            self._declared(graph, running, now)
            self._polling(graph, running, now)
        self._next = max(self._next, now + (time.thread_time() - began) / COST_SHARE)
        return self._new

    # Proved ---------------------------------------------------------------------------------------------------------

    def _stopped(self, graph: Graph, now: float) -> None:
        for key in {node.process for node in graph.nodes}:
            nodes = graph.of(key)
            if nodes and all(node.wait.kind is WaitKind.STOPPED for node in nodes):
                if self._lasts(f"stopped {key}", True, now) >= STUCK_S:  # noqa: FBT003 - any constant mark
                    self._say("stopped", (key,), explain(graph, [key]), proved=True)
            else:
                self._since.pop(f"stopped {key}", None)

    def _uninterruptible(self, graph: Graph, now: float) -> None:
        for node in graph.nodes:
            name = f"uninterruptible {node.process} {node.wait.tid}"
            if node.wait.kind is not WaitKind.UNINTERRUPTIBLE:
                self._since.pop(name, None)
            elif self._lasts(name, (node.wait.wchan, node.wait.switches), now) >= STUCK_S:
                self._say("uninterruptible", (node.process,), explain(graph, [node.process]), proved=True)

    def _deadlock(self, graph: Graph, running: Mapping[ProcessKey, str], now: float) -> bool:
        """Suspect a deadlock that is proved; true while one is there."""
        dead = dead_processes(graph, polling_is_life=True)
        frozen = tuple(
            sorted((node.process, node.wait.tid, node.wait.switches) for node in graph.nodes if node.process in dead)
        )
        if not dead:
            self._since.pop("deadlock", None)
            return False
        if self._lasts("deadlock", frozen, now) < CONFIRM_S:
            return False
        core = culprits(graph, dead)
        if outside_holders(graph, dead, [key.pid for key in running]) is not None:
            return False
        stopped = all(node.wait.kind is WaitKind.STOPPED for key in core for node in graph.of(key))
        if not stopped:
            self._say("deadlock", core, explain(graph, core), proved=True)
        return True

    # Declared -------------------------------------------------------------------------------------------------------

    def _declared(self, graph: Graph, running: Mapping[ProcessKey, str], now: float) -> None:
        by_pid = {key.pid: key for key in running}
        self._waiter = None
        before, self._cones = self._cones, {}
        if self._compiling(running):
            self._since = {name: since for name, since in self._since.items() if not name.startswith("spin ")}
            return
        for (pid, phase), began in list(self._phases.items()):
            key = by_pid.get(pid)
            main = next((node for node in graph.of(key) if node.is_main), None) if key is not None else None
            if key is None or main is None:
                continue
            rounds = self._activity.rounds_per_s(key)
            if main.wait.kind is WaitKind.SLEEP:
                if rounds < ROUNDS_PER_S:
                    continue  # it does what it said it would do
                self._retries.add((pid, phase, began))
            awaited = self._cones[pid, phase, began] = _cone(graph, key)
            # One look may catch somebody between two waits, so the one before counts, too.
            cone = awaited | before.get((pid, phase, began), awaited).intersection(running)
            reason = f"phase {phase!r} of pid {pid} has been open for {now - began:.0f} s"
            quiet = now - max(began, self._moved) >= self._quiet_s
            self._waiter = key
            if busy := [one for one in cone if self._activity.cpu_share(one) >= BUSY_CPU]:
                self._spinning(graph, busy, reason, now, quiet=quiet)
            elif quiet and (pid, phase, began) in self._retries:
                moving = any(self._moves(one) for one in running)
                if rounds >= ROUNDS_PER_S and not moving and not self._somebody_slept(running):
                    lines = [reason, f"pid {key.pid} sleeps and tries again {rounds:.0f} times a second for nothing"]
                    self._say("livelock", (key,), lines, proved=False)
            elif (
                quiet
                and self._known(cone)
                and not self._activity.rested(key)  # it has only just woken up from what it said it would do
                and not any(self._moves(one) for one in cone)
            ):
                self._quiet(graph, key, awaited, reason, now)
        self._waiter = None

    def _somebody_slept(self, running: Mapping[ProcessKey, str]) -> bool:
        """Whether a timer has let somebody sleep for long: what is asked for again and again may be what it is to do.

        Over the whole window: where two take turns, at the moment of their change nobody is asleep for long.
        """
        return any(self._activity.rested(key) and not BACKGROUND.match(name) for key, name in running.items())

    def _spinning(self, graph: Graph, busy: list[ProcessKey], reason: str, now: float, *, quiet: bool) -> None:
        """A process that computes is hung only if it never does anything else: no call, no byte, no other thread."""
        for key in busy:
            alone = self._activity.sole_worker(key)
            running = tuple(node.wait.kind is WaitKind.RUNNING for node in graph.of(key))
            mark = (running if alone is None else alone, self._activity.bytes_so_far(key))
            if self._lasts(f"spin {key}", mark, now) >= self._quiet_s * SPIN and quiet:
                share = self._activity.cpu_share(key)
                lines = [reason, f"pid {key.pid} uses {share:.1f} processors and has not read or written a byte"]
                self._say_declared("livelock", (key,), lines, frozenset({key}), now)

    def _compiling(self, running: Mapping[ProcessKey, str]) -> bool:
        """Whether a compiler is at work in the tree: kernels are built for minutes at start-up, without a word."""
        return any(
            role(name) == "compiler" and self._activity.cpu_share(key) > IDLE_CPU for key, name in running.items()
        )

    def _say_declared(
        self, kind: str, keys: tuple[ProcessKey, ...], lines: list[str], cone: frozenset[ProcessKey], now: float
    ) -> None:
        """Suspect the class, or that a GPU is busy without progress where one of the processes holds a busy one."""
        busy = self._gpu_busy(cone, now)
        self._say("gpu_busy" if busy else kind, keys, [*lines, *([busy] if busy else [])], proved=False)

    def _quiet(self, graph: Graph, key: ProcessKey, cone: frozenset[ProcessKey], reason: str, now: float) -> None:
        peers = [one for one in sorted(cone) if one != key and not BACKGROUND.match(graph.names.get(one, ""))]
        ends = [one for one in peers if not (_awaited(graph, one) & set(peers))] or peers
        nothing = f"nothing has moved for {self._quiet_s:g} s in the {len(cone)} processes that it waits for"
        lines = [reason, nothing, *explain(graph, [key, *ends])[:12]]
        self._say_declared("waiting_for_peer", tuple(ends or [key]), lines, cone, now)

    # Suspected ------------------------------------------------------------------------------------------------------

    def _polling(self, graph: Graph, running: Mapping[ProcessKey, str], now: float) -> None:
        """A tree in which only polling goes on, and whose main threads wait for each other, is suspected."""
        self._visited |= with_clients(graph)
        dead = frozenset(
            key
            for key in dead_processes(graph, polling_is_life=False, visited=self._visited)
            if not BACKGROUND.match(running.get(key, ""))
        )
        if not dead or any(self._moves(key) for key in dead):
            self._since.pop("polling", None)
            return
        if self._lasts("polling", dead, now) >= self._quiet_s <= now - self._moved and all(
            self._activity.span_s(key) > self._quiet_s - 2 for key in dead
        ):
            core = culprits(graph, dead) or tuple(sorted(dead))
            lines = [
                f"only time-outs wake these {len(dead)} processes, and nothing else has moved for {self._quiet_s:g} s"
            ]
            kind = "deadlock" if len(core) == 1 and core[0] in _cone(graph, core[0]) else "waiting_for_peer"
            self._say(kind, core, [*lines, *explain(graph, core)[:12]], proved=False, weak=True)

    def _known(self, keys: Iterable[ProcessKey]) -> bool:
        """Whether all but daemons were looked at for long enough; once does not say that somebody stands still."""
        least = max(self._quiet_s - 2, self._quiet_s / 2)
        working = (key for key in keys if not BACKGROUND.match(self._names.get(key, "")))
        return all(self._activity.span_s(key) >= least for key in working)

    def _moves(self, key: ProcessKey) -> bool:
        if BACKGROUND.match(self._names.get(key, "")):
            return False
        return self._activity.cpu_share(key) > IDLE_CPU or self._activity.moved_bytes(key) > IDLE_BYTES

    def _lasts(self, name: str, mark: object, now: float) -> float:
        """Return for how long, in seconds, something has looked the same."""
        since = self._since.get(name)
        if since is None or since.mark != mark:
            self._since[name] = _Since(mark, now)
            return 0.0
        return now - since.at

    def _say(
        self, kind: str, keys: tuple[ProcessKey, ...], reasons: list[str], *, proved: bool, weak: bool = False
    ) -> None:
        if (kind, keys) in self._said:
            return
        self._said.add((kind, keys))
        found = Suspected(suspicion=kind, reasons=tuple(reasons), keys=keys, proved=proved, waiter=self._waiter)
        self._new.append((found, weak))


def _cone(graph: Graph, start: ProcessKey) -> frozenset[ProcessKey]:
    """Return a process and everything in the tree that its main thread waits for, directly or not."""
    seen, todo = {start}, [start]
    while todo:
        for node in _leading(graph, todo.pop()):
            fresh = {one for waker in node.wakers for one in waker.processes} - seen
            seen |= fresh
            todo += fresh
    return frozenset(seen)


def _awaited(graph: Graph, key: ProcessKey) -> set[ProcessKey]:
    """Return the other processes that the main thread of a process waits for."""
    main = [node for node in graph.of(key) if node.is_main]
    return {one for node in main for waker in node.wakers for one in waker.processes} - {key}


def _leading(graph: Graph, key: ProcessKey) -> list[Node]:
    """Return the main thread, and the others too where it waits for one of them, or was caught awake."""
    nodes = graph.of(key)
    main = [node for node in nodes if node.is_main]
    within = any(
        node.wait.kind is WaitKind.RUNNING or any(key in waker.processes for waker in node.wakers) for node in main
    )
    return nodes if within or not main else main
