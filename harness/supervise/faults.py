"""Performs the declared faults of a cell. Attempted, confirmed and undone are three recorded events."""

from __future__ import annotations

import re
import signal
import time
from dataclasses import dataclass
from typing import Final

from harness.events import Event, FaultAttempted, FaultConfirmed, FaultFailed, Observed
from harness.probes import proc
from harness.record import Sink
from harness.spec import Fault
from harness.supervise.ledger import Entry, Ledger

CONFIRM_S: Final = 5.0
"""How long a delivered signal may take to show its effect, in seconds."""


@dataclass(slots=True)
class _Pending:
    fault: Fault
    entry: Entry | None = None
    deadline: float = 0.0
    done: bool = False


class FaultPlan:
    """The faults of one attempt and what has become of them."""

    def __init__(self, faults: tuple[Fault, ...], ledger: Ledger, sink: Sink) -> None:
        self._pending = [_Pending(fault) for fault in faults]
        self._ledger = ledger
        self._sink = sink

    def on_event(self, event: Event) -> None:
        """Perform the faults that are due at an observation of the program."""
        if not isinstance(event, Observed):
            return
        for item in self._pending:
            if item.fault.at == event.mark and item.entry is None and not item.done:
                self._perform(item, required=True)

    def tick(self) -> None:
        """Perform the faults that wait for a process, and confirm the ones under way."""
        for item in self._pending:
            if item.done:
                continue
            if item.entry is not None:
                self._confirm(item)
            elif item.fault.at is None:
                self._perform(item, required=False)

    def _perform(self, item: _Pending, *, required: bool) -> None:
        fault = item.fault
        entry = next((entry for entry in self._ledger.running() if re.match(fault.target, entry.name)), None)
        if entry is None:
            if required:
                item.done = True
                self._sink(FaultFailed(fault=fault.name, detail=f"no live process is called {fault.target}"))
            return
        self._sink(FaultAttempted(fault=fault.name, target=entry.name, key=entry.key))
        entry.signalled = f"fault:{fault.name}"
        try:
            signal.pidfd_send_signal(entry.pidfd, signal.Signals[fault.signal])
        except OSError as error:
            item.done = True
            self._sink(FaultFailed(fault=fault.name, detail=f"{fault.signal}: {error.strerror}"))
            return
        item.entry, item.deadline = entry, time.monotonic() + CONFIRM_S

    def _confirm(self, item: _Pending) -> None:
        entry = item.entry
        if entry is None:
            return
        if not entry.running:
            detail = f"{entry.name} ended after {item.fault.signal}"
        elif item.fault.signal == "SIGSTOP" and (stat := proc.read_stat(entry.key.pid)) and stat.state == "T":
            detail = f"{entry.name} is stopped"
        elif proc.handles(entry.key.pid, signal.Signals[item.fault.signal]):
            detail = f"{entry.name} took {item.fault.signal} with a handler of its own"
        elif time.monotonic() > item.deadline:
            item.done = True
            detail = f"{item.fault.signal} was delivered to {entry.name}, which still runs after {CONFIRM_S:g} s"
            self._sink(FaultFailed(fault=item.fault.name, detail=detail))
            return
        else:
            return
        item.done = True
        self._sink(FaultConfirmed(fault=item.fault.name, detail=detail))
