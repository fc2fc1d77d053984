"""Runs the zoo under plain ``crashcart watch`` and says of each program whether the detector was right.

    python benchmarks/zoo.py hangs            every hang: found within 15 s of being there, class and suspect right?
    python benchmarks/zoo.py soak --minutes 60  every healthy program in turn, for so long in all: any false alarm?

``--group sealed`` takes only the programs that were kept from whoever wrote the detector; ``--only NAME`` one program.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.events import AttemptStarted, ProcessBorn, ProcessKey, ProcessRenamed, Suspected
from harness.record import iterate_events
from tests.zoo.catalogue import CATALOGUE
from tests.zoo.programs import Program, build

ALLOWED_S = 15.0
NO_HANG = frozenset({"survivors", "deadline"})


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


def show(result: Result) -> str:
    """Return one line of the report."""
    program, wrong = result.program, result.wrong()
    found = ""
    if result.said:
        at, first = result.said[0]
        found = f"{first.suspicion}{' proved' if first.proved else ''} after {max(0.0, at - program.settle_s):.1f} s"
    return f"{'WRONG' if wrong else 'ok':5} {program.group:6} {program.name:24} {found:38} {wrong}"


def main() -> None:
    """Parse the command line, run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["hangs", "soak"])
    parser.add_argument("--group", choices=["open", "sealed"])
    parser.add_argument("--only", action="append")
    parser.add_argument("--minutes", type=float, default=60)
    options = parser.parse_args()
    wanted = [
        program
        for program in CATALOGUE
        if program.kind == ("hang" if options.kind == "hangs" else "healthy")
        and options.group in {None, program.group}
        and (options.only is None or program.name in options.only)
        and not program.missing()
    ]
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
    results = list(run_all(wanted, options.minutes * 60 / max(1, len(wanted)) if options.kind == "soak" else None))
    wrong = [result for result in results if result.wrong()]
    print(f"{len(results) - len(wrong)} of {len(results)} right")
    sys.exit(bool(wrong))


def run_all(programs: Sequence[Program], seconds: float | None) -> Iterator[Result]:
    """Run the programs one after another, each for its share of the soak or as long as a hang may take."""
    with tempfile.TemporaryDirectory(prefix="zoo-") as name:
        folder = Path(name)
        for program in programs:
            build(program, folder)
            result = look(program, folder, seconds or program.settle_s + ALLOWED_S + 8)
            print(show(result), flush=True)
            yield result


if __name__ == "__main__":
    main()
