"""What performs one kind of fault: begin it, see the kernel show its effect, take it back."""

from __future__ import annotations

import re
from typing import Protocol

from harness.events import ProcessKey
from harness.supervise.ledger import Entry, Ledger


class FaultError(Exception):
    """A fault cannot be performed, confirmed or undone; the text says why."""


class Performer(Protocol):
    """One fault under way. Nothing here waits: it is called from the loop that watches the tree.

    Every method may also raise `OSError` where the kernel refuses.
    """

    @property
    def target(self) -> str:
        """Whom or what it is aimed at, in words."""

    @property
    def key(self) -> ProcessKey | None:
        """The process that it is aimed at, if it is one."""

    @property
    def lasts(self) -> bool:
        """Whether it has to be undone."""

    def perform(self) -> None:
        """Begin.

        Raises:
            FaultError: If it cannot be done here, with the reason.
        """

    def confirm(self) -> str | None:
        """Go on if there is more to do, and look; return what the kernel shows once the effect is there.

        Raises:
            FaultError: If it will never be there.
        """

    def undo(self) -> str | None:
        """Take back whatever was done, also by half; return what the kernel shows, ``None`` if there was nothing.

        Raises:
            FaultError: If the machine is not as before.
        """


def matching(ledger: Ledger, target: str) -> list[Entry]:
    """Return the running processes whose title matches a regular expression from its beginning, oldest first."""
    return [entry for entry in ledger.running() if re.match(target, entry.name)]
