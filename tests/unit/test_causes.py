"""The order of failures, from literal records."""

from __future__ import annotations

import dataclasses

from harness.attempt import Attempt, FaultRecord, Mark, Process
from harness.causes import helpers, tell
from harness.events import ProcessKey
from harness.outcome import ExitStatus, StatusSource

EMPTY = Attempt(cell="c", attempt=1, params={}, started_ns=0, end="exited")


def process(pid: int, died_ns: int, *, signal: str | None = None, code: int | None = None, by: str = "") -> Process:
    """Return a process that ended; pid 1 is the one that was started."""
    return Process(
        key=ProcessKey(pid, 1),
        ppid=1,
        parent=None,
        names=(f"p{pid}",),
        claimed_by="root" if pid == 1 else "parent",
        born_ns=0,
        died_ns=died_ns,
        status=ExitStatus(signal=signal, exit_code=code, source=StatusSource.PIDFD),
        ended_by=by,
    )


def error(name: str, t_ns: int, *chain: tuple[str, str]) -> Mark:
    """Return an error mark."""
    return Mark(name=name, pid=1, t_ns=t_ns, data={"error": [{"type": kind, "text": text} for kind, text in chain]})


def test_the_signal_wins_over_the_traceback_of_its_victim() -> None:
    """A worker dies of SIGSEGV; 3 ms later the parent raises: the signal is first, the traceback its consequence."""
    attempt = dataclasses.replace(
        EMPTY,
        processes=(process(2, 1_000_000_000, signal="SIGSEGV"), process(1, 1_500_000_000, code=1)),
        marks=(error("engine_failed", 1_003_000_000, ("RuntimeError", "worker died")),),
    )
    story = tell(attempt)
    assert story.first is not None
    assert (story.first.what, story.first.detail, story.first.t_s) == ("death", "SIGSEGV", 1.0)
    assert [happening.what for happening in story.consequences] == ["error", "death"]


def test_a_fault_comes_before_what_it_does() -> None:
    """The victim of a declared fault is not a second cause."""
    attempt = dataclasses.replace(
        EMPTY,
        processes=(process(2, 2_000_000_000, signal="SIGKILL", by="fault:kill"), process(3, 2_100_000_000, code=1)),
        faults=(FaultRecord(fault="kill", attempted_ns=1_999_000_000),),
    )
    story = tell(attempt)
    assert story.first is not None
    assert (story.first.what, len(story.consequences)) == ("fault", 1)


def test_the_answer_of_a_helper_is_no_failure() -> None:
    """grep found nothing and said so with 1, a second before the job itself failed."""
    attempt = dataclasses.replace(
        EMPTY, processes=(process(1, 3_000_000_000, code=1), process(2, 1_900_000_000, code=1))
    )
    assert helpers(attempt) == {ProcessKey(2, 1)}
    story = tell(attempt)
    assert story.first is not None
    assert (story.first.t_s, story.consequences) == (3.0, ())


def test_who_had_a_child_that_counts_is_no_helper() -> None:
    """A launcher that ends early with 1, because of its worker's signal, is part of the story."""
    worker = dataclasses.replace(process(3, 1_000_000_000, signal="SIGSEGV"), parent=ProcessKey(2, 1), born_ns=5)
    attempt = dataclasses.replace(EMPTY, processes=(process(2, 1_100_000_000, code=1), worker))
    assert helpers(attempt) == frozenset()
    assert [happening.detail for happening in tell(attempt).consequences] == ["exit 1"]


def test_what_the_stop_ladder_ended_is_no_failure() -> None:
    """Neither a clean exit nor our own SIGTERM makes a story."""
    attempt = dataclasses.replace(
        EMPTY, processes=(process(2, 1, code=0), process(3, 2, signal="SIGTERM", by="stop:SIGTERM"))
    )
    assert tell(attempt).first is None


def test_a_chain_shows_what_it_hides() -> None:
    """A connection error that stands before an assertion in the engine is a masked error; a chain of one is not."""
    attempt = dataclasses.replace(
        EMPTY,
        marks=(
            error("client_saw", 5, ("APIConnectionError", "Connection error."), ("AssertionError", "duplicate id")),
            error("plain", 6, ("ValueError", "x")),
        ),
    )
    (masked,) = tell(attempt).masked
    assert (masked.shown, masked.hidden) == ("APIConnectionError: Connection error.", "AssertionError: duplicate id")
