"""Events, their codec, and a reader that copes with whatever a crash leaves."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import events
from harness.errors import RecordError, UsageError
from harness.events import KINDS, Event, ProcessKey
from harness.outcome import ExitStatus, Kind, StatusSource
from harness.plan import Cell
from harness.record import EVENTS, Manifest, Recorder, build_attempt, read_run

CELL = Cell(scenario="toy", id="toy[behaviour=healthy]", params={"behaviour": "healthy"}, kind=Kind.INJECTED)
MANIFEST = Manifest(run="r", created="now", crashcart="0", argv=(), cells=(CELL,))
ROOT, CHILD = ProcessKey(10, 1), ProcessKey(11, 2)

STORY: list[Event] = [
    events.AttemptStarted(argv=("x",), nonce="n", cookie="c", t_ns=0),
    events.ProcessBorn(key=ROOT, ppid=1, parent=None, name="root", comm="root", claimed_by="root", t_ns=1),
    events.ProcessBorn(key=CHILD, ppid=10, parent=ROOT, name="sh", comm="sh", claimed_by="parent", t_ns=2),
    events.ProcessRenamed(key=CHILD, name="VLLM::Worker", t_ns=3),
    events.NonceSaid(pid=10, valid=True, t_ns=4),
    events.ProcessDied(
        key=ROOT, status=ExitStatus(exit_code=0, source=StatusSource.WAITPID), t_ns=5
    ),
    events.ProcessDied(
        key=CHILD, status=ExitStatus(signal="SIGSEGV", source=StatusSource.PIDFD), t_ns=3_000_000_005
    ),
    events.AttemptEnded(end="exited", wall_s=3.0, t_ns=3_000_000_006),
]  # fmt: skip


def write(directory: Path, story: list[Event]) -> Path:
    """Record a story as attempt 1 of the toy cell."""
    recorder = Recorder(directory, MANIFEST)
    for event in story:
        recorder.sink(CELL.id, 1)(event)
    recorder.write(events.RunEnded())
    recorder.close()
    return directory


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_survives_the_codec(kind: type[Event]) -> None:
    """What is written is read back equal, for each event with its required fields filled."""
    samples: dict[type, object] = {ProcessKey: ROOT, str: "text", int: 7, float: 1.5, bool: True}
    fields = {
        field.name: samples.get(
            field.type, () if "tuple" in str(field.type) else {} if "dict" in str(field.type) else None
        )
        for field in msgspec.structs.fields(kind)
        if field.required
    }
    event = msgspec.convert(msgspec.to_builtins(fields) | {"event": kind.__struct_config__.tag}, kind)
    assert events.decode(events.encode(event)) == event


def test_an_event_of_a_newer_crashcart_is_passed_over(tmp_path: Path) -> None:
    """An unknown kind, and unknown fields of a known kind, do not disturb the reader."""
    directory = write(tmp_path / "run", STORY)
    with (directory / EVENTS).open("ab") as log:
        log.write(
            b'{"event":"gpu_sang","t_ns":1,"wall_ns":1}\n{"event":"run_ended","interrupted":false,"mood":"good"}\n'
        )
    record = read_run(directory)
    assert (record.unreadable_lines, record.ended) == (0, True)


def test_a_story_becomes_an_attempt(tmp_path: Path) -> None:
    """Lives, titles, statuses and orphans are folded from the events."""
    record = read_run(write(tmp_path / "run", STORY))
    (attempt,) = record.attempts[CELL.id]
    root, child = attempt.processes
    assert (attempt.nonce, attempt.end, attempt.stopped_ns, root.orphaned_s) == (True, "exited", None, 0.0)
    assert (child.name, child.orphaned_s) == ("VLLM::Worker", 3.0)
    assert child.was("sh")
    assert [process.key for process in attempt.named("VLLM::")] == [CHILD]


def test_the_first_step_of_the_stop_ladder_is_when_an_attempt_was_stopped() -> None:
    steps = [events.StopStep(step=step, keys=(CHILD,), t_ns=t_ns) for step, t_ns in (("SIGTERM", 7), ("SIGKILL", 9))]
    assert build_attempt("c", 1, {}, [*STORY[:3], *steps]).stopped_ns == 7


def test_every_cut_of_the_log_can_be_read(tmp_path: Path) -> None:
    """Cut at any byte, the log gives at most one unreadable line, and never an exception."""
    whole = write(tmp_path / "run", STORY)
    data = (whole / EVENTS).read_bytes()
    for cut in range(0, len(data), 7):
        (whole / EVENTS).write_bytes(data[:cut])
        record = read_run(whole)
        assert record.unreadable_lines <= 1
        assert len(record.attempts[CELL.id]) <= 1


@settings(max_examples=60, deadline=None)
@given(garbage=st.binary(max_size=200), at=st.floats(0, 1))
def test_garbage_in_the_middle_costs_only_its_own_lines(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes, at: float
) -> None:
    """Foreign bytes between two lines are counted and passed over."""
    directory = write(tmp_path_factory.mktemp("g") / "run", STORY)
    lines = (directory / EVENTS).read_bytes().splitlines(keepends=True)
    where = int(at * len(lines))
    (directory / EVENTS).write_bytes(b"".join(lines[:where]) + garbage + b"\n" + b"".join(lines[where:]))
    record = read_run(directory)
    assert len(record.attempts[CELL.id][0].processes) == 2


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    """Nothing is overwritten, and a file in the way is named."""
    write(tmp_path / "run", STORY)
    with pytest.raises(UsageError, match="not empty"):
        Recorder(tmp_path / "run", MANIFEST)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        Recorder(tmp_path / "file", MANIFEST)


def test_no_manifest_no_record(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no run directory"):
        read_run(tmp_path)


def test_a_fault_that_stays_is_told_from_one_that_failed() -> None:
    """What was seen of its effect is kept; that it could not be taken back stands beside it."""
    facts: list[Event] = [
        events.FaultAttempted(fault="slow", target="x"),
        events.FaultConfirmed(fault="slow", detail="slow indeed"),
        events.FaultFailed(fault="slow", detail="not undone: busy", undoing=True),
        events.FaultAttempted(fault="full", target="y"),
        events.FaultFailed(fault="full", detail="no room"),
    ]
    slow, full = build_attempt("c", 1, {}, facts).faults
    assert (slow.confirmed, slow.undone, slow.detail, slow.not_undone) == (
        True,
        False,
        "slow indeed",
        "not undone: busy",
    )
    assert (full.confirmed, full.undone, full.detail, full.not_undone) == (False, False, "no room", "")
