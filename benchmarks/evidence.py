"""Collects the evidence that is committed: N attempts of each cell of a suite. ``make evidence``, or this file.

Stop it whenever you like; called again it goes on where it was. The cells take turns, so that a part of it is a part of
every cell. Each attempt is a run of its own; its record lies below ``runs/evidence`` until you remove it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from harness import __version__
from harness.errors import ExitCode, UsageError
from harness.plan import Cell, plan, select
from harness.probes.machine import read_environment
from harness.record import new_run_id, read_run
from harness.run import Request, run
from harness.spec import Scenario
from reports.trials import COUNTED, Trial, from_row, keep, missing, rates, read_trials, stack_of
from scenarios.registry import all_scenarios

ROOT: Final = Path(__file__).resolve().parent.parent
GIVE_UP: Final = 3
"""After so many attempts in a row that gave no verdict on the stack, a cell is left alone until the next call."""


def attempt(scenario: Scenario, cell: Cell, runs: Path) -> tuple[Trial, bool]:
    """Run a cell once and return what is kept of it, and whether it was interrupted."""
    selection = {name: (value,) for name, value in cell.params.items()}
    result = run(Request(scenarios=(scenario,), selection=selection, out=runs / new_run_id(), argv=tuple(sys.argv)))
    environment = read_run(result.directory).manifest.environment
    trial = from_row(result.rows[0], environment, __version__)
    return msgspec.structs.replace(trial, run=result.directory.name), result.interrupted


def collect(chosen: Sequence[Scenario], suite: str, repeat: int, folder: Path, runs: Path) -> int:
    """Try what is missing, keep each attempt at once, and renew the table after each; return the exit code."""
    environment = read_environment()
    scenarios = {scenario.name: scenario for scenario in chosen}
    inside = [one for one in chosen if any(suite in row.suites for row in one.rows)]
    cells = {cell.id: cell for cell in plan(inside, environment, suite=suite) if cell.untestable is None}
    path, failures = folder / f"{suite}.jsonl", dict.fromkeys(cells, 0)
    stack = stack_of(environment.packages)
    todo = missing(read_trials(path), list(cells), stack, repeat)
    say(f"{len(todo)} attempts of {len(set(todo))} cells are missing in {path}")
    while todo:
        cell = cells[todo.pop(0)]
        trial, interrupted = attempt(scenarios[cell.scenario], cell, runs)
        if interrupted:
            say("interrupted; called again, it goes on with this cell")
            return ExitCode.INTERRUPTED
        say(f"{cell.id}: {trial.verdict.value}{'' if trial.as_expected else ' (NOT AS EXPECTED)'}; {len(todo)} to go")
        if trial.verdict in COUNTED:
            keep(path, trial)
            (folder / f"{suite}.md").write_text(rates(read_trials(path)))
            continue
        failures[cell.id] += 1
        say(f"  no verdict on the stack: {'; '.join(trial.reasons)}")
        if failures[cell.id] >= GIVE_UP:
            todo = [one for one in todo if one != cell.id]
        else:
            todo.append(cell.id)
    unexpected = [one.cell for one in read_trials(path) if one.stack == stack and one.as_expected is False]
    for cell_id in sorted(set(unexpected)):
        say(f"not as expected in {unexpected.count(cell_id)} attempts: {cell_id}")
    return ExitCode.UNEXPECTED if unexpected else ExitCode.OK


def say(line: str) -> None:
    """Tell how it goes."""
    sys.stderr.write(f"{line}\n")


def main() -> None:
    """Read the options and collect."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("scenarios", nargs="*", help="all of the suite, if none is named")
    parser.add_argument("--suite", default="laptop")
    parser.add_argument("--repeat", type=int, default=10, help="attempts of each cell (default: 10)")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "evidence", help="where the lines are kept")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "evidence", help="where the records lie")
    options = parser.parse_args()
    try:
        sys.exit(
            collect(
                select(all_scenarios(), options.scenarios), options.suite, options.repeat, options.folder, options.runs
            )
        )
    except UsageError as error:
        say(f"evidence: {error}")
        sys.exit(ExitCode.USAGE)


if __name__ == "__main__":
    main()
