"""The course of an attempt after its start, as a pure state machine: linger, capture, SIGTERM, SIGKILL, done."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

LINGER_S: Final = 3.0
"""How long descendants may take to end by themselves after the program has ended, in seconds."""
TERM_GRACE_S: Final = 5.0
KILL_GRACE_S: Final = 10.0


class State(Enum):
    """Where an attempt is."""

    RUNNING = auto()
    LINGERING = auto()
    CAPTURING = auto()
    TERMINATING = auto()
    KILLING = auto()
    DONE = auto()


class Action(Enum):
    """What the loop has to do on entering a state."""

    NOTHING = auto()
    CAPTURE = auto()
    TERMINATE = auto()
    KILL = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The state, when it was entered (seconds, monotonic), and how the attempt is to be recorded as ended."""

    state: State
    since: float
    end: str = "exited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the loop sees at one moment."""

    now: float
    root_running: bool
    running: int
    deadline: float
    interrupts: int = 0
    capture_done: bool = False
    kill_ordered: str = ""
    """Why the tree is to be ended although the program runs, for example ``hang``."""
    spare_survivors: bool = False
    """Whether processes that outlive the program are left alone."""


def step(course: Course, seen: Situation) -> tuple[Course, Action]:  # noqa: C901, PLR0911 - one case a transition
    """Return the next state and what is to be done on entering it."""

    def enter(state: State, action: Action = Action.NOTHING, end: str | None = None) -> tuple[Course, Action]:
        return Course(state=state, since=seen.now, end=end or course.end), action

    waited = seen.now - course.since
    if course.state is State.DONE:
        return course, Action.NOTHING
    if not seen.running:
        return enter(State.DONE)
    if seen.interrupts > 1 and course.state is not State.KILLING:
        return enter(State.KILLING, Action.KILL, "interrupted")
    if seen.interrupts and course.state in {State.RUNNING, State.LINGERING, State.CAPTURING}:
        return enter(State.TERMINATING, Action.TERMINATE, "interrupted")
    match course.state:
        case State.RUNNING if not seen.root_running:
            return enter(State.LINGERING)
        case State.RUNNING if seen.kill_ordered:
            return enter(State.CAPTURING, Action.CAPTURE, seen.kill_ordered)
        case State.RUNNING if seen.now >= seen.deadline:
            return enter(State.CAPTURING, Action.CAPTURE, "deadline")
        case State.LINGERING if waited >= LINGER_S and seen.spare_survivors:
            return enter(State.DONE)
        case State.LINGERING if waited >= LINGER_S:
            return enter(State.CAPTURING, Action.CAPTURE)
        case State.CAPTURING if seen.capture_done:
            return enter(State.TERMINATING, Action.TERMINATE)
        case State.TERMINATING if waited >= TERM_GRACE_S:
            return enter(State.KILLING, Action.KILL)
        case State.KILLING if waited >= KILL_GRACE_S:
            return enter(State.DONE)
    return course, Action.NOTHING
