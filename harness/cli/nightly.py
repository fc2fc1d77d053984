"""``crashcart nightly``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.manual import Manual
from harness.cli.options import as_json


@click.command(
    "nightly",
    cls=Manual,
    short_help="Run, compare with history, bisect what is new.",
    examples=(
        "crashcart nightly nightly.toml --check",
        "crashcart nightly nightly.toml",
        "crashcart history --in STATE/runs --only failing",
    ),
    codes={
        "0": "all as expected, and nothing newly failing or slower",
        "1": "something is",
        "2": "no verdict, or a cell that is needed is untestable here",
    },
    variables={
        "CRASHCART_NIGHTLY, _NIGHT, _EXIT_CODE, _SUMMARY": "given to the command that is told what is new",
    },
)
@click.argument("config", type=click.Path(path_type=Path), metavar="CONFIG.toml")
@click.option("--check", is_flag=True, help="Check the configuration and list tonight's cells; run nothing.")
@as_json
def command(config: Path, check: bool, as_json: bool) -> int:  # noqa: FBT001 - flags
    """Run what CONFIG says, compare every cell with the nights before, bisect what is new, and tell.

    Quiet is the rule: what was told once is not told again. Killed at any moment, the same command goes on with the
    night.
    """
    from harness.errors import ExitCode
    from harness.nightly.load import MistakesError

    try:
        if check:
            return _check(config)
        from harness.nightly.driver import nightly

        return nightly(config, json=as_json)
    except MistakesError as error:
        for mistake in error.mistakes:
            click.echo(f"crashcart: {error.path}: {mistake}", err=True)
        return ExitCode.USAGE


def _check(config: Path) -> int:
    from harness.nightly.driver import cells_tonight
    from harness.nightly.load import load

    versions, cells = cells_tonight(load(config))
    for package, version in versions.items():
        click.echo(f"{package} {version}")
    for one in cells:
        why = f"   untestable here: {one.cell.untestable}" if one.cell.untestable else ""
        click.echo(f"{one.cell.id}   as {one.track}{why}" if one.track != one.cell.id else f"{one.cell.id}{why}")
    return 0
