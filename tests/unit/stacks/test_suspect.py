"""Who is named, for which reason, and when nobody is."""

from __future__ import annotations

import pytest

from harness.stacks import Findings, Frame, ThreadStack, merge, suspects
from harness.stacks.suspect import Rule
from tests.unit.stacks.recorded import process, python, stacks


def reduce(*outer: str) -> tuple[Frame, ...]:
    return (*python("main", *outer), Frame("all_reduce", "distributed_c10d.py", 9), Frame("wait", "x.so", native=True))


def found(*rows: tuple[int, tuple[Frame, ...]], samples: int = 1, partial: frozenset[int] = frozenset()) -> Findings:
    return suspects(
        merge(
            ThreadStack(process(100 + rank, rank=rank), frames, sample=sample, partial=rank in partial, tool="py-spy")
            for sample in range(samples)
            for rank, frames in rows
        )
    )


def named(findings: Findings) -> list[tuple[str, Rule]]:
    return [(one.who, one.rule) for one in findings.suspects]


@pytest.mark.parametrize("tool", ["pystack.txt", "pyspy.json", "pyspy-native.json", "gdb.txt"])
@pytest.mark.parametrize("samples", [1, 3])
def test_the_missing_rank_of_a_real_gloo_group(tool: str, samples: int) -> None:
    findings = suspects(
        merge(
            stack
            for sample in range(samples)
            for rank in range(3)
            for stack in stacks(f"gloo{rank}.{tool}", process(10 + rank, rank=rank), sample)
        )
    )
    assert named(findings) == [("trainer 2", Rule.ABSENT)]
    (reason,) = findings.suspects[0].reasons
    assert reason.startswith("not in allreduce, where trainer 0-1 wait; stands in ")
    assert ("clock_nanosleep" if tool == "gdb.txt" else "prepare_batch (gloo.py:16)") in reason


def test_one_of_many_is_alone_in_a_collective() -> None:
    findings = found((0, reduce()), *((rank, python("main", "step")) for rank in range(1, 8)))
    assert named(findings) == [("trainer 0", Rule.ALONE)]
    assert "where trainer 1-7 have not come" in findings.suspects[0].reasons[0]


def test_another_collective_than_the_others() -> None:
    other = (*python("main"), Frame("broadcast", "distributed_c10d.py"))
    findings = found(*((rank, reduce()) for rank in range(3)), (3, other))
    assert named(findings) == [("trainer 3", Rule.ALONE)]
    assert findings.suspects[0].reasons == ("in broadcast, while trainer 0-2 wait in allreduce",)


def test_two_against_two_collectives_is_no_suspect_but_a_remark() -> None:
    other = (*python("main"), Frame("broadcast", "distributed_c10d.py"))
    findings = found((0, reduce()), (1, reduce()), (2, other), (3, other))
    assert findings.suspects == ()
    assert (
        "they wait in different collectives, trainer 0-1 in allreduce; trainer 2-3 in broadcast" in findings.remarks[0]
    )


def test_a_rank_that_only_passes_through_a_collective_does_not_wait() -> None:
    merged = merge(
        ThreadStack(process(100 + rank, rank=rank), frames, sample=sample)
        for rank in range(4)
        for sample, frames in enumerate([reduce(), python("main", "step") if rank == 1 else reduce()])
    )
    assert named(suspects(merged))[0] == ("trainer 1", Rule.ABSENT)


def test_the_minority_is_named_and_where_it_differs() -> None:
    findings = found(*((rank, python("main", "wait")) for rank in range(7)), (7, python("main", "load", "read")))
    assert named(findings) == [("trainer 7", Rule.MINORITY)]
    assert findings.suspects[0].reasons == (
        "differs from 7 of 8 trainer: stands in read (train.py:1), they in wait (train.py:1)",
    )


@pytest.mark.parametrize(
    ("rows", "remark"),
    [
        ([(0, python("f")), (1, python("g"))], "no class of stacks has the majority (1/1)"),
        ([(0, python("f"))], "one process only"),
        ([(0, python("f")), (1, python("f"))], "all processes stand alike"),
        ([], "one process only"),
    ],
    ids=["tie", "single", "alike", "nothing"],
)
def test_no_suspect_is_said(rows: list[tuple[int, tuple[Frame, ...]]], remark: str) -> None:
    findings = found(*rows)
    assert findings.suspects == ()
    assert remark in findings.remarks[0]


def test_a_partial_stack_makes_nobody_a_suspect() -> None:
    rows = [*((rank, python("main", "wait")) for rank in range(3)), (3, python("main"))]
    assert named(found(*rows)) == [("trainer 3", Rule.MINORITY)]
    assert found(*rows, partial=frozenset({3})).suspects == ()


def test_another_tool_makes_nobody_a_suspect() -> None:
    merged = merge(
        ThreadStack(process(1 + rank, rank=rank), python("main") if rank < 3 else (Frame("f", native=True),), tool=tool)
        for rank, tool in enumerate(["py-spy", "py-spy", "py-spy", "gdb"])
    )
    assert suspects(merged).suspects == ()


@pytest.mark.parametrize(
    ("still", "who", "reason"),
    [
        ({4}, "trainer 4", "stands still over 3 samples, while trainer 0-3 move; stands in f (train.py:1)"),
        ({0, 1, 2, 3}, "trainer 4", "moves, while trainer 0-3 stand still and may wait for it; seen in step"),
    ],
)
def test_the_one_that_stands_or_moves_unlike_the_others(still: set[int], who: str, reason: str) -> None:
    merged = merge(
        ThreadStack(
            process(1 + rank, rank=rank), python("main", "f" if rank in still else f"step{sample}"), sample=sample
        )
        for rank in range(5)
        for sample in range(3)
    )
    (suspect,) = suspects(merged).suspects
    assert (suspect.who, suspect.rule) == (who, Rule.MOTION)
    assert suspect.reasons[0].startswith(reason)
    assert suspect.reasons[1].startswith("differs from 4 of 5 trainer")


def test_two_that_move_and_two_that_stand_make_no_suspect_of_motion() -> None:
    merged = merge(
        ThreadStack(process(1 + rank, rank=rank), python("main", f"f{sample * (rank % 2)}"), sample=sample)
        for rank in range(4)
        for sample in range(2)
    )
    assert suspects(merged).suspects == ()


def test_the_holder_of_the_gil_that_others_wait_for() -> None:
    who = process(1, "api_server")
    merged = merge([
        ThreadStack(who, python("main", "spin"), thread_name="MainThread", holds_gil=True),
        ThreadStack(who, python("serve"), thread_name="pool-1", waits="gil"),
    ])  # fmt: skip
    (suspect,) = suspects(merged).suspects
    assert (suspect.who, suspect.rule) == ("api_server pid 1", Rule.GIL)
    assert "thread MainThread holds the GIL in main (train.py:1) > spin (train.py:1)" in suspect.reasons[0]
    assert "while 1 other stack waits for it" in suspect.reasons[0]


def test_a_c_call_that_keeps_the_gil_is_named_only_if_it_stays() -> None:
    once = merge(stacks("hold.pystack.txt", process(1)))
    twice = merge(stack for sample in range(2) for stack in stacks("hold.pystack.txt", process(1), sample))
    assert suspects(once).suspects == ()
    (suspect,) = suspects(twice).suspects
    assert suspect.rule is Rule.GIL
    assert "native_wait_inner (waits.c:8)" in suspect.reasons[0]


def test_reasons_of_the_same_processes_are_put_together() -> None:
    merged = merge(
        ThreadStack(process(1 + rank, rank=rank), python("main", f"step{sample}") if rank else reduce(), sample=sample)
        for rank in range(4)
        for sample in range(2)
    )
    (suspect, *_) = suspects(merged).suspects
    assert suspect.who == "trainer 0"
    assert suspect.rule is Rule.ALONE
    assert len(suspect.reasons) == 2


def test_actors_that_differ_from_each_other_are_a_tie() -> None:
    merged = merge([
        *stacks("actor-stuck.pystack.txt", process(1, "ray_worker")),
        *stacks("actor-asking.pystack.txt", process(2, "ray_worker")),
    ])  # fmt: skip
    assert suspects(merged).suspects == ()
    (place,) = (node for node in merged.walk() if merged.tree.frames[node].name == "ask")
    assert merged.directory.present_missing(merged.members(place)) == "ray_worker pid 2|1"
