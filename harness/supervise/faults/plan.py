"""Performs the declared faults of an attempt. Attempted, confirmed and undone are three recorded events."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from harness.events import Event, FaultAttempted, FaultConfirmed, FaultFailed, FaultUndone, Observed
from harness.record import Sink
from harness.spec import ClosePort, Fault, FaultAction, FillShm, HoldPort, LimitMemory, SendSignal, SlowDisk
from harness.supervise.faults.disk import DiskFault
from harness.supervise.faults.memory import MemoryFault, ShmFault
from harness.supervise.faults.performer import FaultError, Performer, matching
from harness.supervise.faults.ports import ClosedPortFault, HeldPortFault
from harness.supervise.faults.signals import SignalFault
from harness.supervise.ledger import Entry, Ledger

CONFIRM_S: Final = 5.0
"""How long a fault may take to show its effect, in seconds, from the last progress that was seen of it."""
BEGIN_S: Final = 60.0
"""How long a fault may take that is there before the program starts, in seconds."""


NOBODY_S: Final = 1.0
"""How long a process that a due fault is aimed at may be unknown, in seconds: a title is seen a few ms after the exec.
"""


class Stage(Enum):
    """How far a fault has come."""

    WAITING = auto()
    DUE = auto()
    ATTEMPTED = auto()
    IN_FORCE = auto()
    DONE = auto()


@dataclass(slots=True)
class _Item:
    fault: Fault
    stage: Stage = Stage.WAITING
    performer: Performer | None = None
    deadline: float = 0.0
    undo_at: float | None = None


class FaultPlan:
    """The faults of one attempt and what has become of them."""

    def __init__(self, faults: tuple[Fault, ...], ledger: Ledger, sink: Sink) -> None:
        self._items = [_Item(fault) for fault in faults]
        self._ledger = ledger
        self._sink = sink
        self._over = False

    def begin(self) -> None:
        """Perform the faults that need neither a process nor an observation; call before the program starts."""
        until = time.monotonic() + BEGIN_S
        for item in self._items:
            if item.fault.at is None and isinstance(item.fault.action, FillShm | HoldPort):
                self._perform(item)
                while item.stage is Stage.ATTEMPTED and time.monotonic() < until:
                    self._confirm(item)

    def on_event(self, event: Event) -> None:
        """Perform and undo the faults that are due at an observation of the program."""
        if not isinstance(event, Observed):
            return
        for item in self._items:
            if item.fault.at == event.mark and item.stage is Stage.WAITING and not self._over:
                item.stage, item.deadline = Stage.DUE, time.monotonic() + NOBODY_S
                self._perform(item)
            elif item.fault.until == event.mark and item.stage in {Stage.ATTEMPTED, Stage.IN_FORCE}:
                item.undo_at = time.monotonic()  # one that the program felt before it was confirmed is confirmed first

    def tick(self) -> None:
        """Perform the faults that wait for a process, confirm the ones under way, undo those whose time is over."""
        for item in self._items:
            if self._over:
                return
            if item.stage is Stage.DUE or (item.stage is Stage.WAITING and item.fault.at is None):
                self._perform(item)
            elif item.stage is Stage.ATTEMPTED:
                self._confirm(item)
            elif item.stage is Stage.IN_FORCE and item.undo_at is not None and time.monotonic() >= item.undo_at:
                self._undo([item])

    def undo_all(self) -> None:
        """Undo what is still in force, the latest first, and perform no more; may be called again.

        Everything is undone before anything of it is recorded, so that a full disk keeps no fault alive.
        """
        self._over = True
        momentary = [item for item in self._items if item.stage is Stage.ATTEMPTED and not _lasts(item)]
        self._undo(self._items[::-1])
        for item in momentary:
            self._confirm(item)
        for item in self._items:
            if item.stage is Stage.DUE:
                self._give_up(item)

    def _perform(self, item: _Item) -> None:
        """Begin a fault, unless there is no process for it yet; one that is due does not wait for ever."""
        performer = _performer(item.fault, self._ledger)
        if performer is None:
            if item.stage is Stage.DUE and time.monotonic() > item.deadline:
                self._give_up(item)
            return
        item.performer, item.stage = performer, Stage.ATTEMPTED
        item.deadline = time.monotonic() + CONFIRM_S
        self._sink(FaultAttempted(fault=item.fault.name, target=performer.target, key=performer.key))
        try:
            performer.perform()
        except (FaultError, OSError) as error:
            self._fail(item, str(error))

    def _confirm(self, item: _Item) -> None:
        if item.performer is None:
            return
        before = time.monotonic()
        try:
            detail = item.performer.confirm()
        except (FaultError, OSError) as error:
            self._fail(item, str(error))
            return
        now = time.monotonic()
        item.deadline += now - before  # the time that the fault itself needed is progress
        if detail is not None:
            item.stage = Stage.IN_FORCE if item.performer.lasts else Stage.DONE
            if item.fault.lasts_s is not None and item.undo_at is None:
                item.undo_at = now + item.fault.lasts_s
            self._sink(FaultConfirmed(fault=item.fault.name, detail=detail))
        elif now > item.deadline:
            self._fail(item, _not_seen(item.fault.action, item.performer))

    def _give_up(self, item: _Item) -> None:
        item.stage = Stage.DONE
        self._sink(FaultFailed(fault=item.fault.name, detail=_nobody(item.fault.action)))

    def _fail(self, item: _Item, detail: str) -> None:
        self._sink(FaultFailed(fault=item.fault.name, detail=detail))
        self._undo([item])

    def _undo(self, items: list[_Item]) -> None:
        outcomes: list[FaultUndone | FaultFailed] = []
        for item in items:
            if item.stage not in {Stage.ATTEMPTED, Stage.IN_FORCE} or item.performer is None:
                continue
            item.stage = Stage.DONE
            if not item.performer.lasts:
                continue
            try:
                detail = item.performer.undo()
            except (FaultError, OSError) as error:
                key = None if isinstance(item.fault.action, SlowDisk) else item.performer.key
                detail = f"not undone: {error}"
                outcomes.append(FaultFailed(fault=item.fault.name, detail=detail, undoing=True, key=key))
                continue
            if detail is not None:
                outcomes.append(FaultUndone(fault=item.fault.name, detail=detail))
        for outcome in outcomes:
            self._sink(outcome)


def _performer(fault: Fault, ledger: Ledger) -> Performer | None:
    """Return what performs a fault, or ``None`` while no process matches its target."""
    match fault.action:
        case FillShm() as action:
            return ShmFault(action)
        case HoldPort() as action:
            return HeldPortFault(action)
        case action:
            entries = matching(ledger, action.target)
            return _on_processes(fault.name, action, entries) if entries else None


def _on_processes(
    name: str, action: SendSignal | LimitMemory | ClosePort | SlowDisk, entries: list[Entry]
) -> Performer:
    match action:
        case SendSignal():
            return SignalFault(name, action, entries[0])
        case LimitMemory():
            return MemoryFault(action, entries[0])
        case ClosePort():
            return ClosedPortFault(action, entries)
        case SlowDisk():
            return DiskFault(name, action, entries)


def _lasts(item: _Item) -> bool:
    return item.performer is not None and item.performer.lasts


def _nobody(action: FaultAction) -> str:
    return f"no live process is called {getattr(action, 'target', '')}"


def _not_seen(action: FaultAction, performer: Performer) -> str:
    if isinstance(action, SendSignal):
        return f"{action.signal} was delivered to {performer.target}, which still runs after {CONFIRM_S:g} s"
    return f"its effect on {performer.target} was not seen within {CONFIRM_S:g} s"
