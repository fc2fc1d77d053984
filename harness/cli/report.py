"""``crashcart report``."""

from __future__ import annotations

from pathlib import Path

import click

from reports.formats import print_as
from reports.load import load_rows


@click.command("report", short_help="Print stored runs.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--format", "form", type=click.Choice(["table", "md", "csv", "json"]), default="table", show_default=True)
def command(runs: tuple[Path, ...], form: str) -> int:
    r"""Print the table of stored runs, from their records alone.

    \b
    Examples:
      crashcart report runs/latest
      crashcart report runs/latest --format md >> issue.md
    """
    for directory in runs:
        print_as(load_rows(directory), directory, form)
    return 0
