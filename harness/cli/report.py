"""``crashcart report``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.cli.manual import Manual
from harness.errors import UsageError
from reports.formats import print_as
from reports.load import load_rows

ONE_RUN = frozenset({"html", "trace"})


@click.command(
    "report",
    cls=Manual,
    short_help="Print stored runs.",
    examples=(
        "crashcart report runs/latest",
        "crashcart report runs/latest --format md >> issue.md",
        "crashcart report runs/latest --format html > report.html",
        "crashcart report runs/latest --format trace > trace.json",
        "crashcart report runs/ten --by route --format md",
    ),
    codes={"0": "printed", "64": "no readable run, or wrong usage"},
)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "md", "html", "csv", "json", "junit", "trace"]),
    default="table",
    show_default=True,
)
@click.option(
    "--cell", "cells", multiple=True, metavar="ID", help="html: only these cells, whole however big they are."
)
@click.option(
    "--by", metavar="AXIS[,AXIS]", help="table, md, csv: variants of these axes side by side, with their throughput."
)
def command(runs: tuple[Path, ...], form: str, cells: tuple[str, ...], by: str | None) -> int:
    """Print stored runs, from their records alone.

    table, md, csv, json and junit take several runs; html is one page, and trace is for Perfetto and the like: each of
    one run. What is printed is what `crashcart run` leaves in the run directory.
    """
    if by is not None:
        from reports.variants import FORMATS, render

        if form not in FORMATS:
            message = f"--by has no --format {form}"
            raise UsageError(message, hint=f"one of {', '.join(FORMATS)}")
        click.echo(render(runs, tuple(by.split(",")), form), nl=False)
        return 0
    if form in ONE_RUN and len(runs) > 1:
        message = f"--format {form} is of one run"
        raise UsageError(message, hint="give one RUN, or compare two with `crashcart compare A B`")
    if cells and form != "html":
        message = "--cell is for --format html"
        raise UsageError(message, hint="json and csv have a cell per line")
    if form in {"table", "csv", "json"}:
        for directory in runs:
            print_as(load_rows(directory), directory, form)
    else:
        _print_document(runs, form, cells)
    return 0


def _print_document(runs: tuple[Path, ...], form: str, cells: tuple[str, ...]) -> None:
    """Print what needs more than rows; each module is imported only if it is asked for."""
    if form == "md":
        from reports.markdown import to_markdown

        click.echo("\n".join(to_markdown(load_rows(directory)) for directory in runs), nl=False)
    elif form == "junit":
        from reports.junit import to_junit

        click.echo(to_junit(runs), nl=False)
    elif form == "trace":
        from reports.trace import write_trace

        write_trace(runs[0], sys.stdout.buffer)
    else:
        from reports.page import Page

        page = Page(runs[0])
        unknown = set(cells) - {one.row.cell for one in page.rows}
        if unknown:
            message = f"{runs[0]} has no cell {min(unknown)!r}"
            raise UsageError(message, hint="`crashcart report RUN --format json` lists them")
        click.echo(page.render(cells), nl=False)
