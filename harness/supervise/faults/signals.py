"""Signals: one process of the ledger gets one, and by its pidfd none but that process."""

from __future__ import annotations

import signal
import time
from typing import Final

from harness.events import ProcessKey
from harness.probes import proc
from harness.spec import SendSignal
from harness.supervise.faults.performer import FaultError
from harness.supervise.ledger import Entry

RESUME_S: Final = 1.0
"""How long a process may stay in state T after SIGCONT, in seconds."""


class SignalFault:
    """Sends the signal; confirmed by the death, the stop, or a handler of the process that has taken it."""

    def __init__(self, name: str, action: SendSignal, entry: Entry) -> None:
        self._mark = f"fault:{name}"
        self._signal = signal.Signals[action.signal]
        self._entry = entry
        self._sent = False

    @property
    def target(self) -> str:
        """The title of the process."""
        return self._entry.name

    @property
    def key(self) -> ProcessKey | None:
        """The process."""
        return self._entry.key

    @property
    def lasts(self) -> bool:
        """Only a stopped process waits for something."""
        return self._signal is signal.SIGSTOP

    def perform(self) -> None:
        """Send it; the ledger lays a death that follows at the fault's door, but only of one that was sent."""
        try:
            signal.pidfd_send_signal(self._entry.pidfd, self._signal)
        except OSError as error:
            msg = f"{self._signal.name}: {error.strerror}"
            raise FaultError(msg) from error
        self._sent = True
        self._entry.signalled = self._mark

    def confirm(self) -> str | None:
        """Return what has become of the process, or ``None`` while nothing is to be seen."""
        entry, sent = self._entry, self._signal.name
        if not entry.running:
            return f"{entry.name} ended after {sent}"
        stat = proc.read_stat(entry.key.pid)
        if self.lasts and stat is not None and stat.state == "T":
            return f"{entry.name} is stopped"
        if proc.handles(entry.key.pid, self._signal):
            return f"{entry.name} took {sent} with a handler of its own"
        return None

    def undo(self) -> str | None:
        """Let a stopped process go on."""
        entry = self._entry
        if not self._sent:
            return None
        if not entry.running:
            return f"{entry.name} is gone"
        signal.pidfd_send_signal(entry.pidfd, signal.SIGCONT)
        if entry.signalled == self._mark:
            entry.signalled = ""  # what ends it from now on is something else
        until = time.monotonic() + RESUME_S
        while (stat := proc.read_stat(entry.key.pid)) is not None and stat.key == entry.key and stat.state == "T":
            if time.monotonic() > until:
                msg = f"{entry.name} is still stopped {RESUME_S:g} s after SIGCONT"
                raise FaultError(msg)
            time.sleep(0.001)
        return f"{entry.name} goes on"
