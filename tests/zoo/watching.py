"""One program of the zoo under plain ``crashcart watch``, and whether what the detector said of it is right."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.events import AttemptStarted, ProcessBorn, ProcessKey, ProcessRenamed, Suspected
from harness.record import iterate_events
from tests.zoo.programs import Program

ALLOWED_S: Final = 15.0
NO_HANG: Final = frozenset({"survivors", "deadline"})


@dataclass(frozen=True)
class Result:
    """What the detector said of one program, and when (seconds after its start)."""

    program: Program
    said: tuple[tuple[float, Suspected], ...]
    titles: dict[ProcessKey, set[str]]

    def wrong(self) -> str:
        """Return what is not as the catalogue says, empty if all is."""
        if self.program.kind == "healthy":
            return f"false alarm: {self.said[0][1].suspicion} {self.said[0][1].reasons[:2]}" if self.said else ""
        if not self.said:
            return "not found"
        at, first = self.said[0]
        classes = {self.program.hang, *self.program.also}
        suspects = {title for key in first.keys for title in self.titles.get(key, ())}
        if first.suspicion not in classes:
            return f"class {first.suspicion}, not {self.program.hang}: {'; '.join(first.reasons[:3])[:300]}"
        if not any(re.search(self.program.suspect, title) for title in suspects):
            return f"suspects {sorted(suspects)[:3]}, not {self.program.suspect}"
        if self.program.proved and not first.proved:
            return "suspected, though it can be proved"
        return "" if at - self.program.settle_s <= ALLOWED_S else f"found only {at - self.program.settle_s:.1f} s late"


def look(program: Program, folder: Path, seconds: float) -> Result:
    """Watch one program until something is said, at most for so long; then end the whole tree."""
    run = Path(tempfile.mkdtemp(dir=folder)) / "run"
    command = [sys.executable, "-m", "harness", "watch", "--out", str(run), "--", *program.argv(folder, int(seconds))]
    with (folder / f"{program.name}.out").open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.3)
        if any(True for _ in suspicions(run)):
            time.sleep(0.5)
            break
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    titles: dict[ProcessKey, set[str]] = {}
    for event in iterate_events(run):
        if isinstance(event, (ProcessBorn, ProcessRenamed)):
            titles.setdefault(event.key, set()).add(event.name)
    return Result(program, tuple(suspicions(run)), titles)


def suspicions(run: Path) -> Iterator[tuple[float, Suspected]]:
    """Yield the hangs that a record suspects, with their time after the start."""
    started = 0
    for event in iterate_events(run):
        if isinstance(event, AttemptStarted):
            started = event.t_ns
        if isinstance(event, Suspected) and event.suspicion not in NO_HANG:
            yield (event.t_ns - started) / 1e9, event
