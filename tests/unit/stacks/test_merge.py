"""The tree holds exactly who was there, whatever the order, and its size follows from what differs."""

from __future__ import annotations

import json
import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from harness.events import ProcessKey
from harness.stacks import Frame, Merged, Merger, Process, ThreadStack, as_json, merge, suspects
from harness.stacks.members import Members, folded
from tests.unit.stacks.recorded import process, python, stacks

NUMBERS = st.sets(st.integers(0, 5000), max_size=60)


@given(NUMBERS, NUMBERS)
def test_members_are_sets(one: set[int], two: set[int]) -> None:
    first, second = Members(one), Members(two)
    assert list(first) == sorted(one)
    assert len(first) == len(one)
    assert bool(first) is bool(one)
    assert set(first | second) == one | two
    assert set(first & second) == one & two
    assert set(first - second) == one - two
    assert (first == second) is (one == two)
    assert all((number in first) is (number in one) for number in two)


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 3000)), max_size=5))
def test_ranges_are_added_whole_and_runs_are_longest(ranges: list[tuple[int, int]]) -> None:
    members, plain = Members(), set[int]()
    for start, length in ranges:
        members.add_range(start, start + length)
        plain.update(range(start, start + length))
    runs = list(members.runs())
    assert {number for start, stop in runs for number in range(start, stop)} == plain
    assert all(stop < following for (_, stop), (following, _) in pairwise(runs))


def test_folded_ranges() -> None:
    assert folded(Members([0, 1, 2, 5, 6, 7, 9]).runs()) == "0-2,5-7,9"
    assert folded(Members(range(0, 20, 2)).runs(), 3) == "0,2,4,…"
    assert folded([]) == ""


functions = st.sampled_from("abcd")
thread_stacks = st.builds(
    lambda rank, role, path, sample, partial: ThreadStack(
        Process(
            ProcessKey(100 + rank + 50 * (role == "server"), 7), f"{role}.py", role, rank if role == "rank" else None
        ),
        python(*path),
        sample=sample,
        partial=partial,
        tool="py-spy",
    ),
    st.integers(0, 9),
    st.sampled_from(["rank", "server"]),
    st.lists(functions, max_size=5),
    st.integers(0, 2),
    st.booleans(),
)


def tree(merged: Merged) -> dict[tuple[str, ...], set[int]]:
    """Return, for each path of the tree, the pids that are there."""
    names = {
        node: tuple(merged.tree.frames[above].function for above in merged.tree.path(node)) for node in merged.walk()
    }
    return {
        names[node]: {merged.directory.process(position).key.pid for position in merged.members(node)} for node in names
    }


@given(st.lists(thread_stacks, max_size=30))
def test_present_sets_are_exact(given_stacks: list[ThreadStack]) -> None:
    expected: dict[tuple[str, ...], set[int]] = {}
    for stack in given_stacks:
        path = tuple(frame.function for frame in stack.frames) or ("[no frames]",)
        for depth in range(1, len(path) + 1):
            expected.setdefault(path[:depth], set()).add(stack.process.key.pid)
    merged = merge(given_stacks)
    assert tree(merged) == expected
    assert sum(merged.tree.threads) == len(given_stacks)


@given(st.lists(thread_stacks, max_size=30))
def test_classes_are_the_processes_with_the_same_set_of_stacks(given_stacks: list[ThreadStack]) -> None:
    shown: dict[int, set[tuple[Frame, ...]]] = {}
    for stack in given_stacks:
        shown.setdefault(stack.process.key.pid, set()).add(stack.frames)
    expected = {frozenset(pid for pid in shown if shown[pid] == some) for some in shown.values()}
    merged = merge(given_stacks)
    got = [frozenset(merged.directory.process(position).key.pid for position in one.members) for one in merged.classes]
    assert len(got) == len(set(got))
    assert set(got) == expected
    assert [len(one) for one in got] == sorted((len(one) for one in got), reverse=True)
    for one in merged.classes:
        assert one.representative in one.members


@given(st.lists(thread_stacks, max_size=20), st.randoms(use_true_random=False))
def test_the_order_does_not_matter(given_stacks: list[ThreadStack], dice: random.Random) -> None:
    shuffled = given_stacks.copy()
    dice.shuffle(shuffled)
    assert json.dumps(as_json(merge(shuffled))) == json.dumps(as_json(merge(given_stacks)))


def test_the_order_does_not_matter_for_recorded_dumps() -> None:
    found = [
        stack
        for rank in range(3)
        for tool in ("pystack.txt", "pyspy-native.json", "gdb.txt")
        for stack in stacks(f"gloo{rank}.{tool}", process(10 + rank, rank=rank))
    ]
    assert as_json(merge(found)) == as_json(merge(reversed(found)))


def test_ranks_are_folded_into_present_and_missing() -> None:
    merged = merge(
        ThreadStack(process(1000 + rank, rank=rank), python("main", "waits" if rank not in {3, 4} else "works"))
        for rank in range(8)
    )
    shown = {
        merged.tree.frames[node].function: merged.directory.present_missing(merged.members(node))
        for node in merged.walk()
    }
    assert shown == {"main": "trainer 0-7", "waits": "trainer 0-2,5-7|3-4", "works": "trainer 3-4|0-2,5-7"}


def test_roles_are_not_missing_where_others_stand() -> None:
    merged = merge([
        ThreadStack(process(1, rank=0), python("all_reduce")),
        ThreadStack(process(2, rank=1), python("other")),
        ThreadStack(process(900, "raylet"), python("poll")),
        ThreadStack(process(901, "raylet"), python("poll")),
    ])  # fmt: skip
    shown = {
        merged.tree.frames[node].function: merged.directory.present_missing(merged.members(node))
        for node in merged.walk()
    }
    assert shown == {"all_reduce": "trainer 0|1", "other": "trainer 1|0", "poll": "raylet pid 900-901"}


def test_the_same_rank_twice_is_told_apart_by_pid() -> None:
    merged = merge(ThreadStack(process(pid, rank=0), python("f" if pid == 5 else "g")) for pid in (5, 9))
    assert {merged.directory.present_missing(one.members) for one in merged.classes} == {
        "trainer pid 5|9",
        "trainer pid 9|5",
    }


def test_one_pid_used_twice_is_two_processes() -> None:
    twice = [Process(ProcessKey(5, start), role="x") for start in (1, 2)]
    hosts = [Process(ProcessKey(5, 1), role="x", host=host) for host in ("a", "b")]
    assert len(merge(ThreadStack(who, python("f")) for who in twice + hosts[1:]).directory) == 3


def test_threads_that_python_never_saw_are_in_the_tree_and_make_no_class() -> None:
    """The pollers of a library come and go: two ranks that differ in them alone look alike, and nobody is suspected."""
    poller = (Frame("grpc_poll", "x.so", native=True), Frame("epoll_wait", "libc.so", native=True))
    ranks = [process(10 + rank, rank=rank) for rank in range(3)]
    seen = [ThreadStack(rank, python("main", "wait"), tool="both") for rank in ranks]
    merged = merge([*seen, ThreadStack(ranks[1], poller, tool="both", unseen=True)])
    assert [list(one.members) for one in merged.classes] == [[0, 1, 2]]
    assert suspects(merged).suspects == ()
    assert tree(merged)["grpc_poll", "epoll_wait"] == {11}
    assert [merged.tree.frames[node].function for node in merged.walk()] == ["main", "wait", "grpc_poll", "epoll_wait"]
    counted = merge([*seen, ThreadStack(ranks[1], poller, tool="both")])
    assert len(counted.classes) == 2
    assert suspects(counted).suspects != ()


def test_lines_are_shown_as_a_range_or_kept_apart() -> None:
    at = [ThreadStack(process(rank + 1, rank=rank), (Frame("loop", "t.py", 10 + rank),)) for rank in range(3)]
    together, apart = merge(at), merge(at, lines=True)
    assert [together.tree.label(node) for node in together.walk()] == ["loop (t.py:10-12)"]
    assert [apart.tree.label(node) for node in apart.walk()] == ["loop (t.py:10)", "loop (t.py:11)", "loop (t.py:12)"]


def test_py_spy_and_pystack_meet_in_one_node() -> None:
    """One says ``Thread.run``, the other ``run``; the longer name is shown, whichever came first."""
    found = [*stacks("threads.pyspy.json", process(1)), *stacks("threads.pystack.txt", process(2))]
    merged = merge(found)
    (consumer,) = (node for node in merged.walk() if merged.tree.frames[node].name == "consumer")
    assert len(merged.members(consumer)) == 2
    assert "Thread.run (threading.py:982)" in {merged.tree.label(node) for node in merged.tree.path(consumer)}
    assert as_json(merge(found[::-1])) == as_json(merged)


def test_more_may_be_added_after_a_result() -> None:
    merger = Merger()
    merger.add(ThreadStack(process(1, rank=0), python("f")))
    assert len(merger.result().directory) == 1
    merger.add(ThreadStack(process(2, rank=1), python("f")))
    (only,) = merger.result().classes
    assert list(only.members) == [0, 1]


def test_repeated_samples_of_many_processes_cost_no_more_nodes() -> None:
    merger = Merger()
    for sample in range(4):
        for rank in range(2000):
            merger.add(
                ThreadStack(process(rank + 1, rank=rank), python("main", "loop", f"step{rank % 3}"), sample=sample)
            )
    merged = merger.result()
    assert merged.samples == (0, 1, 2, 3)
    assert len(merged.tree.parents) == 6
    assert [len(one.members) for one in merged.classes] == [667, 667, 666]
    assert len(merger._states.sets) < 20


def test_ranks_in_any_order_come_out_sorted() -> None:
    ranks = list(range(3000))
    random.Random(1).shuffle(ranks)
    merged = merge(ThreadStack(process(9000 - rank, rank=rank), python("f")) for rank in ranks)
    assert merged.directory.present_missing(merged.classes[0].members) == "trainer 0-2999"
    assert merged.directory.process(7).rank == 7


def test_the_json_has_its_fields() -> None:
    merged = merge([
        ThreadStack(process(1, rank=0), python("main", "f"), tool="py-spy"),
        ThreadStack(process(2, rank=1), python("main"), tool="py-spy", partial=True),
    ])  # fmt: skip
    assert as_json(merged) == {
        "schema": 2,
        "processes": 2,
        "stacks": 2,
        "samples": [0],
        "tools": ["py-spy"],
        "left_out_frames": 0,
        "partial": {"trainer": "1"},
        "nodes": [
            {
                "id": 0, "parent": None, "function": "main", "file": "train.py", "lines": [1, 1], "native": False,
                "present": {"trainer": "0-1"}, "missing": {}, "count": 2, "stacks": 1,
            },
            {
                "id": 1, "parent": 0, "function": "f", "file": "train.py", "lines": [1, 1], "native": False,
                "present": {"trainer": "0"}, "missing": {"trainer": "1"}, "count": 1, "stacks": 1,
            },
        ],
        "classes": [
            {
                "members": {"trainer": str(rank)}, "count": 1, "leaves": [1 - rank],
                "representative": {
                    "pid": rank + 1, "start": 1, "host": "", "role": "trainer", "title": "trainer.py", "rank": rank,
                },
            }
            for rank in range(2)
        ],
        "suspects": [],
        "remarks": [],
    }  # fmt: skip
