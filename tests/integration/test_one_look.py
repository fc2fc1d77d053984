"""One look is one moment: what was seen once only does not stand still, and who is awake waits for others in the next.

An engine in a Ray actor that had computed for 19 s was called a hang, as nothing moved in the processes that the
program was seen to wait for: it was not among them. Most likely a thread was awake at that look, and waited for nobody:
the main thread of a Ray actor is woken 300 times a second.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from harness.events import Event, PhaseMarked, ProcessKey, Suspected
from harness.probes.proc import read_stat
from harness.probes.threads import Wait, WaitKind
from harness.supervise import hang
from harness.supervise.hang import HangDetector
from harness.supervise.ledger import Ledger
from harness.supervise.waitgraph import Graph, Node, Wakers
from harness.supervise.waits import read_graph

WAITER = """
import subprocess, sys
print("ready", flush=True)
child = subprocess.Popen([sys.executable, "-c", sys.stdin.read(int(sys.stdin.readline()))], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
COMPUTES = "print(flush=True)\nwhile True: open('/dev/zero', 'rb').read(4096)"
SLEEPS = "import time; print(flush=True); time.sleep(600)"


@pytest.fixture
def waiter() -> Iterator[subprocess.Popen[str]]:
    """Start a process that starts another one when it is told to, and waits for it; all are ended afterwards."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        subprocess.run(["kill", "-KILL", "--", f"-{process.pid}"], check=False)


def key_of(pid: int) -> ProcessKey:
    """Return the key of a process that is alive."""
    stat = read_stat(pid)
    assert stat is not None
    return ProcessKey(pid, stat.start)


def suspicions(waiter: subprocess.Popen[str], command: str, *later_s: float) -> list[Suspected]:
    """Look before the other one is born, and that many seconds later each; return what is suspected."""
    said: list[Event] = []
    detector = HangDetector(Ledger(said.append), said.append)
    detector.on_event(PhaseMarked(phase="start", state="begin", pid=waiter.pid, at_ns=0, data={}))
    running, begin = {key_of(waiter.pid): "waiter"}, time.monotonic()
    found = detector._look(running, begin)
    assert waiter.stdin is not None
    assert waiter.stdout is not None
    waiter.stdin.write(f"{len(command)}\n{command}")
    waiter.stdin.flush()
    running[key_of(int(waiter.stdout.readline()))] = "other"
    for seconds in later_s:
        time.sleep(0.5)
        found += detector._look(running, begin + seconds)
    detector.close()
    return [event for event, _weak in found]


def test_one_that_was_born_between_two_looks_has_not_stood_still(waiter: subprocess.Popen[str]) -> None:
    assert suspicions(waiter, COMPUTES, 20) == []


def test_one_that_has_not_moved_from_one_look_to_the_next_is_suspected(waiter: subprocess.Popen[str]) -> None:
    (found,) = suspicions(waiter, SLEEPS, 20, 40)
    assert found.waiter == key_of(waiter.pid)
    assert found.suspicion == "waiting_for_peer"


@pytest.mark.parametrize(("looks_s", "found"), [((10, 20), 0), ((10, 20, 30), 1)], ids=["one look", "two looks"])
def test_who_waits_for_nobody_at_one_look_has_not_stopped_waiting(
    waiter: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch, looks_s: tuple[int, ...], found: int
) -> None:
    """From the third look on nobody is seen to wait for anybody; what was waited for long ago does not count."""
    looks = 0

    def seen(running: dict[ProcessKey, str]) -> Graph:
        nonlocal looks
        looks += 1
        graph = read_graph(running)
        return graph if looks < 3 else Graph(nodes=tuple(replace(node, wakers=()) for node in graph.nodes))

    monkeypatch.setattr(hang, "read_graph", seen)
    assert len(suspicions(waiter, COMPUTES, *looks_s)) == found
    assert looks == 1 + len(looks_s)


def test_what_a_process_waits_for_is_seen_while_its_main_thread_is_awake() -> None:
    """As a Ray actor: the main thread beats, another one waits for a child."""
    actor, child = ProcessKey(10, 1), ProcessKey(20, 1)
    waits = Wakers(processes=frozenset({child}), through="pipe:[1]")

    def cone(main: WaitKind) -> frozenset[ProcessKey]:
        blocked = Wait(tid=11, name="asyncio", kind=WaitKind.DESCRIPTORS, call="poll")
        beats = Wait(tid=10, name="main", kind=main, call="running")
        nodes = (Node(process=actor, wait=beats), Node(process=actor, wait=blocked, wakers=(waits,)))
        return hang._cone(Graph(nodes=nodes), actor)

    assert cone(WaitKind.RUNNING) == {actor, child}
    assert cone(WaitKind.SLEEP) == {actor}, "who sleeps does what it said it would do"
