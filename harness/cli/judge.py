"""``crashcart judge``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.manual import Manual
from harness.cli.options import as_json
from harness.run import exit_code, judge_run
from reports.formats import print_as
from reports.publish import publish
from scenarios.registry import all_scenarios


@click.command(
    "judge",
    cls=Manual,
    short_help="Judge a stored run again.",
    examples=("crashcart judge runs/latest",),
    codes={
        "0": "all as expected",
        "1": "something not as expected",
        "2": "no verdict, or a cell that the suite needs is untestable here",
    },
    files={"results.jsonl": "in the run directory: the rows, which are replaced"},
)
@click.argument("run", type=click.Path(path_type=Path))
@as_json
def command(run: Path, as_json: bool) -> int:  # noqa: FBT001 - a flag
    """Judge a stored run again with today's oracles and replace its results.

    The events are read as far as they can be; a torn or damaged line is passed over and said so.
    """
    record, rows = judge_run(run, all_scenarios())
    publish(run)
    if record.unreadable_lines:
        click.echo(f"crashcart: {record.unreadable_lines} unreadable lines in {run}/events.jsonl passed over", err=True)
    if not record.ended:
        click.echo(f"crashcart: the record of {run} stops before its end; judged as far as it can be read", err=True)
    print_as(rows, run, "json" if as_json else "table")
    return exit_code(rows, record.manifest.cells)
