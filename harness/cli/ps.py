"""``crashcart ps``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from harness.attempt import Attempt, Process
from harness.cli.manual import Manual
from harness.cli.options import as_json
from harness.record import read_run
from harness.roles import role


@click.command(
    "ps",
    cls=Manual,
    short_help="List recorded processes.",
    examples=("crashcart ps runs/latest", "crashcart ps runs/latest --json | jq 'select(.signal != null)'"),
    codes={"0": "listed", "64": "no run directory, or wrong usage"},
    files={"events.jsonl": "in the run directory: the ledger that is read, also after a torn last line"},
)
@click.argument("run", type=click.Path(path_type=Path))
@as_json
def command(run: Path, as_json: bool) -> int:  # noqa: FBT001 - a flag
    """List every process of a stored run: parent, title, role, life, and how it ended according to which source."""
    record = read_run(run)
    for attempts in record.attempts.values():
        for attempt in attempts:
            rows = [describe(attempt, process) for process in attempt.processes]
            if as_json:
                for row in rows:
                    click.echo(json.dumps(row))
            else:
                _print(attempt, rows)
    return 0


def describe(attempt: Attempt, process: Process) -> dict[str, Any]:
    """Return one process in the form of the contract (design.md, section 3); times are seconds since the start."""
    status = process.status
    return {
        "cell": attempt.cell,
        "attempt": attempt.attempt,
        "pid": process.key.pid,
        "ppid": process.ppid,
        "name": process.name,
        "role": role(process.name),
        "born": round((process.born_ns - attempt.started_ns) / 1e9, 3),
        "died": None if process.died_ns is None else round((process.died_ns - attempt.started_ns) / 1e9, 3),
        "exit_code": status.exit_code if status else None,
        "signal": status.signal if status else None,
        "status_source": status.source.value if status else None,
        "orphaned": process.orphaned_s > 0,
        "left_behind": any(left.key == process.key and left.what == "process" for left in attempt.leftovers),
        "ended_by": process.ended_by,
    }


def _print(attempt: Attempt, rows: list[dict[str, Any]]) -> None:
    console = Console(highlight=False)
    console.print(f"{attempt.cell} attempt {attempt.attempt}", style="bold", markup=False)
    columns = ("pid", "ppid", "role", "born", "died", "exit_code", "signal", "status_source", "orphaned", "name")
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column != "name", overflow="ellipsis", max_width=60)
    for row in rows:
        table.add_row(*("-" if row[column] is None else str(row[column]).replace("[", r"\[") for column in columns))
    console.print(table)
