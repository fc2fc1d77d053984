"""The course of an attempt, as a table of situations."""

from __future__ import annotations

import dataclasses

import pytest

from harness.supervise.stop import KILL_GRACE_S, LINGER_S, TERM_GRACE_S, Action, Course, Situation, State, step

ALIVE = Situation(now=100.0, root_running=True, running=3, deadline=1000.0)


@pytest.mark.parametrize(
    ("state", "since", "changes", "after", "action", "end"),
    [
        (State.RUNNING, 0, {}, State.RUNNING, Action.NOTHING, "exited"),
        (State.RUNNING, 0, {"running": 0, "root_running": False}, State.DONE, Action.NOTHING, "exited"),
        (State.RUNNING, 0, {"root_running": False}, State.LINGERING, Action.NOTHING, "exited"),
        (State.RUNNING, 0, {"deadline": 100.0}, State.CAPTURING, Action.CAPTURE, "deadline"),
        (State.RUNNING, 0, {"kill_ordered": "hang"}, State.CAPTURING, Action.CAPTURE, "hang"),
        (State.RUNNING, 0, {"interrupts": 1}, State.TERMINATING, Action.TERMINATE, "interrupted"),
        (State.RUNNING, 0, {"interrupts": 2}, State.KILLING, Action.KILL, "interrupted"),
        (State.LINGERING, 100 - LINGER_S + 0.1, {}, State.LINGERING, Action.NOTHING, "exited"),
        (State.LINGERING, 100 - LINGER_S, {}, State.CAPTURING, Action.CAPTURE, "exited"),
        (State.LINGERING, 99, {"running": 0}, State.DONE, Action.NOTHING, "exited"),
        (State.CAPTURING, 99, {}, State.CAPTURING, Action.NOTHING, "exited"),
        (State.CAPTURING, 99, {"capture_done": True}, State.TERMINATING, Action.TERMINATE, "exited"),
        (State.CAPTURING, 99, {"interrupts": 1}, State.TERMINATING, Action.TERMINATE, "interrupted"),
        (State.TERMINATING, 100 - TERM_GRACE_S, {}, State.KILLING, Action.KILL, "exited"),
        (State.TERMINATING, 99, {}, State.TERMINATING, Action.NOTHING, "exited"),
        (State.KILLING, 100 - KILL_GRACE_S, {}, State.DONE, Action.NOTHING, "exited"),
        (State.KILLING, 99, {"interrupts": 5}, State.KILLING, Action.NOTHING, "exited"),
        (State.DONE, 0, {"running": 0}, State.DONE, Action.NOTHING, "exited"),
    ],
)
def test_step(  # noqa: PLR0913, PLR0917 - a table
    state: State, since: float, changes: dict[str, object], after: State, action: Action, end: str
) -> None:
    """Each state is left for the one reason that belongs to it."""
    seen = dataclasses.replace(ALIVE, **changes)  # type: ignore[arg-type]
    course, done = step(Course(state=state, since=since), seen)
    assert (course.state, done, course.end) == (after, action, end)


def test_every_course_ends() -> None:
    """A tree that reacts to nothing is left after the sum of all waits, and the deadline stays the reason."""
    course, now, actions = Course(state=State.RUNNING, since=0.0), 0.0, []
    while course.state is not State.DONE:
        now += 0.5
        seen = Situation(now=now, root_running=True, running=1, deadline=5.0, capture_done=True)
        course, action = step(course, seen)
        actions.append(action)
        assert now < 5 + TERM_GRACE_S + KILL_GRACE_S + 3
    assert [action for action in actions if action is not Action.NOTHING] == [
        Action.CAPTURE,
        Action.TERMINATE,
        Action.KILL,
    ]
    assert course.end == "deadline"
