"""``crashcart run``."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from harness.cli.manual import Manual
from harness.cli.options import as_json, parameters, without
from harness.cli.progress import Progress
from harness.errors import UsageError
from harness.plan import parse_selection, select
from harness.run import Request, run
from harness.spec import SUITE_NAMES
from reports.formats import print_table
from reports.publish import publish
from scenarios.registry import all_scenarios


@click.command(
    "run",
    cls=Manual,
    short_help="Run cells.",
    examples=(
        "crashcart run --suite smoke",
        "crashcart run actor_gc -p verl=0.3.0.post1,0.4.0",
        "crashcart run nested_spawn --repeat 10 --out runs/ten",
    ),
    codes={
        "0": "all as expected",
        "1": "something not as expected",
        "2": "no verdict, or a cell that the suite needs is untestable here",
        "130": "interrupted; the tree was ended and the evidence kept",
    },
    variables={
        "CRASHCART_WITHOUT": "capabilities that are to count as missing, as --without",
        "CRASHCART_CACHE": "where other releases and the tiny model lie; default: below ~/.cache",
    },
    files={"runs/latest": "a link to the newest run directory"},
)
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO]...")
@parameters
@click.option("--suite", metavar="NAME", help=f"Only the cells of a suite: {', '.join(SUITE_NAMES)}.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Attempts of each cell.")
@click.option(
    "--until-reproduced", type=click.IntRange(1), metavar="N", help="Repeat a cell until reproduced, at most N times."
)
@click.option("--out", type=click.Path(path_type=Path), help="The run directory itself; default runs/<time>-<id>.")
@without
@as_json
def command(  # noqa: PLR0913, PLR0917 - one argument per option
    scenarios: tuple[str, ...],
    parameters: tuple[str, ...],
    suite: str | None,
    repeat: int,
    until_reproduced: int | None,
    out: Path | None,
    without: tuple[str, ...],
    as_json: bool,  # noqa: FBT001 - a flag
) -> int:
    """Run cells one after another and end with the comparison table.

    Without SCENARIO every scenario is taken; without -p and --suite every listed cell of it. Each cell runs under the
    supervisor: every descendant with its exit status, stacks when something is wrong, nothing left behind.
    """
    if until_reproduced is not None and repeat != 1:
        message = "--repeat and --until-reproduced exclude each other"
        raise UsageError(message)
    request = Request(
        scenarios=select(all_scenarios(), scenarios),
        selection=parse_selection(parameters),
        suite=suite,
        repeat=repeat,
        until_reproduced=until_reproduced,
        out=out,
        without=frozenset(without),
        argv=tuple(sys.argv[1:]),
        collect=True,
    )
    with Progress() as progress:
        result = run(request, progress)
    publish(result.directory)
    if as_json:
        for row in result.rows:
            click.echo(msgspec.json.encode(row).decode())
    else:
        print_table(result.rows, result.directory)
    return result.exit_code
