"""Stacks, states and waits of a live tree that crashcart did not start; nothing of it is ended or left stopped."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.errors import UsageError
from harness.events import ProcessKey, StacksCaptured
from harness.probes import proc
from harness.probes.gpu import GpuFinding
from harness.probes.gpu import explain as explain_gpus
from harness.probes.gpu_probes import look_at_gpus
from harness.roles import role
from harness.supervise.capture import CaptureJob
from harness.supervise.merged import MergedStacks, merge_captures
from harness.supervise.waitgraph import Graph, culprits, dead_processes, explain
from harness.supervise.waits import outside_holders, read_graph

STEP_S: Final = 0.004
"""Time between two looks at the tools, in seconds; `StacksCaptured.held_s` is as fine as this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a tree looks like at one moment."""

    names: Mapping[ProcessKey, str]
    states: Mapping[ProcessKey, str]
    graph: Graph
    captures: tuple[StacksCaptured, ...]
    merged: MergedStacks | None
    gpu: tuple[GpuFinding, ...]
    """Who holds GPU memory: this tree, others, or nobody that can be seen."""
    deadlocked: tuple[ProcessKey, ...]
    reasons: tuple[str, ...]
    seconds: float

    def held(self, key: ProcessKey) -> tuple[float, float]:
        """Return for how long a process was held for its stack, and by how much that may be wrong, in seconds."""
        found = [(one.held_s, one.held_error_s) for one in self.captures if one.key == key]
        return max(found, default=(0.0, 0.0))

    def document(self) -> dict[str, Any]:
        """Return the plain form, ready for JSON."""
        return {
            "processes": [
                {
                    "pid": key.pid,
                    "start": key.start,
                    "name": name,
                    "role": role(name),
                    "state": self.states[key],
                    "threads": len(self.graph.of(key)),
                    "stack_tools": [one.tool for one in self.captures if one.key == key and one.path],
                    "held_s": self.held(key)[0],
                    "held_error_s": self.held(key)[1],
                    "partial": [one.detail for one in self.captures if one.key == key and one.partial],
                }
                for key, name in self.names.items()
            ],
            "gpu": [
                {"kind": one.kind.value, "gpu": one.gpu, "mib": one.mib, "ours": one.ours, "reason": one.reason}
                for one in self.gpu
            ],
            "deadlocked": [key.pid for key in self.deadlocked],
            "reasons": list(self.reasons),
            "stacks": self.merged.document if self.merged is not None else None,
            "seconds": self.seconds,
        }


def snapshot(pid: int, without: frozenset[str] = frozenset()) -> Snapshot:
    """Look at a process and all its descendants.

    Raises:
        UsageError: If there is no such process.
    """
    began = time.monotonic()
    root = proc.read_stat(pid)
    if root is None:
        msg = f"there is no process {pid}"
        raise UsageError(msg, hint="`ps -e` lists the live ones; a recorded run is shown by `crashcart ps RUN`")
    stats = family(root)
    names = {stat.key: proc.read_title(stat.pid) or stat.comm for stat in stats}
    graph = read_graph(names)
    dead = dead_processes(graph, polling_is_life=True)
    if dead and outside_holders(graph, dead, [key.pid for key in names]) is not None:
        dead = frozenset()
    core = culprits(graph, dead)
    gpus = look_at_gpus(without)
    captures: list[StacksCaptured] = []
    no_orders = without | {"flight_recorder"}  # a live job would write over its own dumps, for nobody
    with tempfile.TemporaryDirectory(prefix="cc-") as name:
        folder = Path(name)
        job = CaptureJob(list(names), folder / "stacks", lambda _: None, set(), no_orders)
        while not job.advance():
            time.sleep(STEP_S)
        captures = job.captures
        merged = merge_captures(captures, names, folder)
    return Snapshot(
        names=names,
        states={stat.key: stat.state for stat in stats},
        graph=graph,
        captures=tuple(captures),
        merged=merged,
        gpu=explain_gpus(gpus.devices, gpus.holders, ledger=tuple(names)),
        deadlocked=core,
        reasons=tuple(explain(graph, core)),
        seconds=round(time.monotonic() - began, 3),
    )


def family(root: proc.Stat) -> list[proc.Stat]:
    """Return a process and its descendants, parents first."""
    children: dict[int, list[proc.Stat]] = {}
    for pid in proc.all_pids():
        stat = proc.read_stat(pid)
        if stat is not None:
            children.setdefault(stat.ppid, []).append(stat)
    found = [root]
    for stat in found:
        found += children.get(stat.pid, [])
    return found
