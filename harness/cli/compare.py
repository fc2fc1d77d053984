"""``crashcart compare``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.manual import Manual
from reports.compare import compare
from reports.compare_formats import PRINTERS


@click.command(
    "compare",
    cls=Manual,
    short_help="Compare two stored runs.",
    examples=(
        "crashcart compare runs/before runs/after",
        "crashcart compare runs/mine runs/theirs --format md >> issue.md",
    ),
    codes={
        "0": "no verdict flipped",
        "1": "a cell that was tested on both sides has another verdict",
        "64": "no readable run, or wrong usage",
    },
)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(list(PRINTERS)), default="table", show_default=True)
def command(a: Path, b: Path, form: str) -> int:
    """Compare two stored runs cell by cell, from their records alone; verdict flips come first.

    Cells that only one side has, or that could not be tested on one side, are listed and are no flips.
    """
    comparison = compare(a, b)
    click.echo(PRINTERS[form](comparison), nl=False)
    return int(comparison.flips > 0)
