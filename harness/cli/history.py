"""``crashcart history``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from harness.cli.manual import Manual
from harness.cli.options import as_json
from harness.errors import UsageError
from harness.history.store import History, open_history
from harness.history.view import ONLY


@click.command(
    "history",
    cls=Manual,
    short_help="Show what became of each cell over all runs.",
    examples=(
        "crashcart history --only failing",
        "crashcart history 'actor_gc[verl=0.4.0,keep_parent=false]'",
        "crashcart history --in nightly/runs --prune 90",
    ),
    codes={"0": "shown"},
    files={"history.sqlite": "beside the run directories: an index of them, made anew by --rebuild"},
)
@click.argument("what", required=False, metavar="[SCENARIO|CELL]")
@click.option(
    "--in", "folder", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
    help="The folder that holds the run directories and history.sqlite.",
)  # fmt: skip
@click.option("--machine", metavar="TEXT", help="Only machines whose description holds this.")
@click.option("--only", type=click.Choice(ONLY), help="Only cells that stand so.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Runs of a CELL that are shown.")
@click.option("--rebuild", is_flag=True, help="Make the database anew from the run directories.")
@click.option("--prune", metavar="DAYS", type=click.IntRange(1), help="Delete older runs; never a first failure.")
@as_json
def command(  # noqa: PLR0913, PLR0917 - one argument per option
    what: str | None,
    folder: Path,
    machine: str | None,
    only: str | None,
    limit: int,
    rebuild: bool,  # noqa: FBT001 - a flag
    prune: int | None,
    as_json: bool,  # noqa: FBT001 - a flag
) -> int:
    """Show how each cell stands, or the runs of one CELL with what was installed anew in each.

    New run directories are taken in first. The database is an index of them and may be deleted at any time. A run that
    was judged again is read again with --rebuild. A cell in which a nightly lets a version float is written with a
    star: actor_gc[verl=*,keep_parent=false].
    """
    with open_history(folder, rebuild=rebuild) as history:
        if prune is not None:
            _prune(history, prune)
        machines = [label for label in history.machines() if machine is None or machine in label]
        if machine is not None and not machines:
            message = f"no run on a machine like {machine!r}"
            raise UsageError(message, hint=f"there are: {'; '.join(history.machines()) or 'none'}")
        if what is not None and "[" in what:
            return _cell(history, what, machines, limit, as_json=as_json)
        return _overview(history, what, machines, only, as_json=as_json)


def _prune(history: History, days: int) -> None:
    from harness.history.retention import prune

    deleted = prune(history, int(time.time()) - days * 86400)
    click.echo(f"crashcart: {len(deleted)} runs older than {days} days deleted", err=True)


def _cell(history: History, name: str, machines: list[str], limit: int, *, as_json: bool) -> int:
    from harness.history.view import timeline

    found = [(label, stands) for label in machines if (stands := history.standing(name, label)) is not None]
    if not found:
        message = f"no run of {name!r} in {history.folder}"
        raise UsageError(message, hint=f"`crashcart history --in {history.folder}` lists the cells")
    for label, stands in found:
        entries = history.newest(name, label, limit)
        if as_json:
            import msgspec

            for entry in entries:
                click.echo(msgspec.json.encode(entry).decode())
        else:
            click.echo(timeline(name, stands, entries) + "\n")
    return 0


def _overview(history: History, scenario: str | None, machines: list[str], only: str | None, *, as_json: bool) -> int:
    from harness.history.view import line_of, overview, wanted

    tracks = history.tracks(scenario)
    if scenario is not None and not tracks:
        message = f"no run of {scenario!r} in {history.folder}"
        raise UsageError(message, hint=f"`crashcart history --in {history.folder}` lists what there is")
    all_standings = ((track, history.standing(track, label)) for track in tracks for label in machines)
    lines = [line_of(track, stands) for track, stands in all_standings if stands is not None and wanted(stands, only)]
    if as_json:
        import msgspec

        for line in lines:
            click.echo(msgspec.json.encode(line).decode())
    else:
        click.echo(overview(lines) if lines else "no cell stands so" if only else "no run yet")
    return 0
