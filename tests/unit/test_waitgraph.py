"""Who can still be woken, on literal graphs: what the zoo's programs look like at one moment, without the programs."""

from __future__ import annotations

from harness.events import ProcessKey
from harness.probes.threads import Wait, WaitKind
from harness.supervise.waitgraph import LISTENING, Graph, Node, Wakers, culprits, dead_processes, with_clients

A, B = ProcessKey(1, 1), ProcessKey(2, 1)


def node(
    process: ProcessKey, kind: WaitKind, *wakers: Wakers, tid: int = 0, name: str = "", timed: bool = False
) -> Node:
    """Return a thread, the main one unless a number is given."""
    wait = Wait(tid=tid or process.pid, name=name, kind=kind, call="", timed=timed)
    return Node(process=process, wait=wait, wakers=wakers)


def on(*processes: ProcessKey) -> Wakers:
    """Return that these processes can end a wait."""
    return Wakers(processes=frozenset(processes))


def dead(*nodes: Node, polling_is_life: bool = True) -> frozenset[ProcessKey]:
    """Return who is dead."""
    return dead_processes(Graph(nodes=nodes), polling_is_life=polling_is_life)


def test_two_that_wait_for_each_other_are_dead_and_both_the_place() -> None:
    nodes = (node(A, WaitKind.CHILD, on(B)), node(B, WaitKind.DESCRIPTORS, on(A)))
    assert dead(*nodes) == {A, B}
    assert set(culprits(Graph(nodes=nodes), frozenset({A, B}))) == {A, B}


def test_who_waits_for_one_that_outsiders_can_wake_is_alive() -> None:
    """A shell above an event loop that handles signals, or above make."""
    loop = node(B, WaitKind.DESCRIPTORS, on(B), Wakers(outside="a signal that it handles"))
    assert dead(node(A, WaitKind.CHILD, on(B)), loop) == set()


def test_a_timer_is_life_unless_it_only_polls() -> None:
    poll = node(A, WaitKind.FUTEX, on(A), timed=True)
    assert dead(poll) == set()
    assert dead(poll, polling_is_life=False) == {A}
    assert dead(node(A, WaitKind.SLEEP, timed=True), polling_is_life=False) == set()


def test_a_thread_of_a_runtime_is_no_life_of_the_program_even_while_it_runs() -> None:
    """gloo's beats; on a busy machine it is found runnable at most looks. A thread of the program's own is life."""
    main = node(A, WaitKind.FUTEX, on(A), timed=True)
    beat = node(A, WaitKind.RUNNING, tid=7, name="gloo_tcp_loop")
    own = node(A, WaitKind.RUNNING, tid=8, name="python")
    assert dead(main, beat, polling_is_life=False) == {A}
    assert dead(main, own, polling_is_life=False) == set()
    assert dead(main, beat) == set()


def test_a_server_that_nobody_has_come_to_waits_for_clients() -> None:
    """A coordinator of vLLM's data parallelism while its engines start; once one has connected, it must send."""
    main = node(A, WaitKind.DESCRIPTORS, on(A), timed=True)
    listens = Wakers(outside=LISTENING)
    alone = node(A, WaitKind.DESCRIPTORS, listens, listens, on(A), tid=7, name="ZMQbg/IO/0")
    visited = node(A, WaitKind.DESCRIPTORS, listens, on(B), tid=7, name="ZMQbg/IO/0")
    stuck = node(B, WaitKind.DESCRIPTORS, on(A))
    assert dead(main, alone, polling_is_life=False) == set()
    assert dead(main, visited, stuck, polling_is_life=False) == {A, B}
    beat = node(A, WaitKind.DESCRIPTORS, on(A), tid=7, name="ZMQbg/IO/0", timed=True)
    assert dead(main, beat, polling_is_life=False) == {A}, "it listens nowhere"


def test_a_server_that_had_clients_has_more_to_wait_for_than_the_next_one() -> None:
    """The library may serve with several threads, one for those who listen; and a client that has gone was one."""
    main = node(A, WaitKind.DESCRIPTORS, on(A), timed=True)
    door = node(A, WaitKind.DESCRIPTORS, Wakers(outside=LISTENING), on(A), tid=7, name="ZMQbg/IO/0")
    guest = node(A, WaitKind.DESCRIPTORS, on(B), tid=8, name="ZMQbg/IO/1")
    stuck = node(B, WaitKind.DESCRIPTORS, on(A))
    assert dead(main, door, guest, stuck, polling_is_life=False) == {A, B}
    foreign = node(
        A, WaitKind.DESCRIPTORS, Wakers(outside="a socket whose other end is outside"), tid=8, name="ZMQbg/IO/1"
    )
    assert with_clients(Graph(nodes=(door, foreign))) == {A}
    alone = Graph(nodes=(main, door))
    assert dead_processes(alone, polling_is_life=False) == set()
    assert dead_processes(alone, polling_is_life=False, visited=frozenset({A})) == {A}


def test_a_main_thread_is_the_programs_own_whatever_a_runtime_calls_it() -> None:
    """torch renames it."""
    assert dead(node(A, WaitKind.SLEEP, name="pt_main_thread", timed=True), polling_is_life=False) == set()
    assert dead(node(A, WaitKind.RUNNING, name="pt_main_thread"), polling_is_life=False) == set()
