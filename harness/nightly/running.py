"""Runs what is left of a night, in run directories that say what they are part of."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from harness.bisect.one import find_scenario
from harness.cli.progress import Progress
from harness.errors import RecordError
from harness.events import AttemptStarted
from harness.history.facts import NIGHT, NightMark, has_ended
from harness.judge import Row
from harness.nightly.night import Night, State, write
from harness.nightly.planning import tracks
from harness.outcome import VerdictName
from harness.plan import Cell
from harness.record import RESULTS, iterate_events, new_run_id
from harness.run import Request, run
from harness.supervise.cookie import end_survivor, find_survivors
from reports.load import load_rows
from reports.publish import publish

INTERRUPTED: Final = "interrupted"
PAGE: Final = "report.html"


class _Marked(Progress):
    """Shows a run, and marks its directory as part of the night before the first cell begins."""

    def __init__(self, night: Night) -> None:
        super().__init__()
        self.mark = NightMark(nightly=night.config.name, night=night.night, tracks=tracks(night.cells))

    def planned(self, directory: Path, cells: Sequence[Cell]) -> None:
        write(directory / NIGHT, self.mark)
        super().planned(directory, cells)


def finished_rows(state: State, night: Night) -> dict[str, Row]:
    """Return the rows of a night by cell, less those of cells that somebody interrupted."""
    found: dict[str, Row] = {}
    for directory in state.runs_of(night.night):
        try:
            rows = load_rows(directory)
        except RecordError:  # killed while it wrote its first row
            continue
        for row in rows:
            if not (row.verdict is VerdictName.NO_VERDICT and row.reasons and row.reasons[0].startswith(INTERRUPTED)):
                found[row.cell] = row
    return found


def run_what_is_left(state: State, night: Night) -> None:
    """Run the cells that have no row yet.

    Raises:
        KeyboardInterrupt: If it was interrupted; the tree has been ended then, and what was recorded stays.
    """
    end_survivors(state, night)
    for directory in state.runs_of(night.night):
        if (directory / RESULTS).exists() and not (directory / PAGE).exists():
            publish(directory)
    done = finished_rows(state, night)
    left = [one for one in night.cells if one.cell.id not in done]
    for repeat in sorted({one.repeat for one in left}):
        cells = [one for one in left if one.repeat == repeat]
        targets = dict.fromkeys(one.target for one in cells)
        with _Marked(night) as progress:
            result = run(
                Request(
                    scenarios=tuple(find_scenario(target) for target in targets),
                    selection={},
                    repeat=repeat,
                    out=state.runs / new_run_id(),
                    without=frozenset(night.config.without),
                    argv=tuple(sys.argv[1:]),
                    cells=tuple(one.cell for one in cells),
                ),
                progress,
            )
        publish(result.directory)
        if result.interrupted:
            raise KeyboardInterrupt


def end_survivors(state: State, night: Night) -> None:
    """End what a nightly that was killed has left of this night, and nobody else's."""
    cut = [directory for directory in state.runs_of(night.night) if not has_ended(directory)]
    ours = {
        event.cookie for directory in cut for event in iterate_events(directory) if isinstance(event, AttemptStarted)
    }
    for survivor in find_survivors(cut) if cut else []:
        if survivor.cookie in ours:
            gone = end_survivor(survivor)
            word = "ended" if gone else "could not end"
            click.echo(f"crashcart: {word} what was left: {survivor.key.pid} {survivor.title}", err=True)
