"""Live progress on stderr: which cell, phase, elapsed, expected end; plain lines where stderr is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.judge import Row
from harness.plan import Cell
from harness.run import Watcher
from harness.supervise.loop import Status

HEARTBEAT_S = 30.0
"""How often a plain log says that an attempt still goes on, in seconds."""


class Progress(Watcher):
    """Shows a run while it goes on."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False)
        self._live = Live(console=self._console, transient=True, refresh_per_second=4, auto_refresh=False)
        self._tty = self._console.is_terminal
        self._cells: Sequence[Cell] = ()
        self._done = 0
        self._now = ("", 0.0, 0.0)
        self._said = 0.0

    def __enter__(self) -> Self:
        if self._tty:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._tty:
            self._live.stop()

    def planned(self, directory: Path, cells: Sequence[Cell]) -> None:
        """Say what will be done and where the record lies."""
        self._cells = cells
        self._console.print(f"{len(cells)} cells, record in {directory}", style="dim")

    def preparing(self, what: str) -> None:
        """Say what is being installed."""
        if self._tty:
            self._live.update(Text(f"  preparing {what} …"), refresh=True)

    def started(self, cell: Cell, attempt: int, expected_s: float) -> None:
        """Say which cell begins."""
        label = cell.id + (f" attempt {attempt}" if attempt > 1 else "")
        self._now = (label, time.monotonic(), expected_s)
        self._said = time.monotonic()
        if not self._tty:
            text = f"[{self._done + 1}/{len(self._cells)}] {label} (about {expected_s:.0f} s)"
            self._console.print(text, markup=False, soft_wrap=True)

    def running(self, status: Status) -> None:
        """Show how far the attempt is."""
        label, since, expected = self._now
        elapsed = time.monotonic() - since
        left = f"about {max(0.0, expected - elapsed):.0f} s left" if elapsed < expected else "longer than usual"
        text = (
            f"[{self._done + 1}/{len(self._cells)}] {label}  {status.phase}"
            f"  {status.processes} processes  {elapsed:.0f} s, {left}"
        )
        if self._tty:
            self._live.update(Text(text), refresh=True)
        elif time.monotonic() - self._said > HEARTBEAT_S:
            self._said = time.monotonic()
            self._console.print("    " + text, markup=False, soft_wrap=True)

    def judged(self, row: Row) -> None:
        """Say what a cell came to."""
        self._done += 1
        sign = {True: "ok", False: "NOT AS EXPECTED", None: "-"}[row.as_expected]
        why = f": {row.reasons[0]}" if row.reasons and row.as_expected is not True else ""
        self._console.print(f"    {row.verdict} ({sign}) in {row.wall_s:.1f} s{why}", markup=False, soft_wrap=True)
