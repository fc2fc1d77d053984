"""``crashcart check``: one cell as the predicate of ``git bisect run``."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import click

from harness.cli.manual import Manual
from harness.cli.options import parameters, without
from harness.errors import CrashcartError, UsageError
from harness.outcome import VerdictName

CODES: Final = {VerdictName.ABSENT: 0, VerdictName.REPRODUCED: 1}
SKIP: Final = 125


class Predicate(Manual):
    """Ends with 125 where another command would say 64: to ``git bisect run`` every other code would be a verdict."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:  # noqa: ANN401 - click's signature
        """Read the arguments; those that cannot be read are no verdict."""
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            click.echo(f"crashcart: {error.format_message()}; see crashcart check --help", err=True)
            raise click.exceptions.Exit(SKIP) from error


@click.command(
    "check",
    cls=Predicate,
    short_help="Run one cell for `git bisect run`.",
    examples=(
        "git bisect run crashcart check 'actor_gc[verl=installed,keep_parent=false]'",
        "git bisect run crashcart check my_pkg.my_hang:SCENARIO --repeat 10",
    ),
    codes={"0": "absent", "1": "reproduced", "125": "anything else, wrong usage included"},
    variables={
        "CRASHCART_WITHOUT": "capabilities that are to count as missing, as --without",
        "CRASHCART_CACHE": "where other releases and the tiny model lie; default: below ~/.cache",
    },
)
@click.argument("cell", metavar="SCENARIO|CELL")
@parameters
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Until reproduced, at most.")
@click.option("--signature", metavar="TEXT", help="Part of the signature that counts as reproduced.")
@click.option("--out", type=click.Path(path_type=Path), help="The run directory; default: one in the temporary folder.")
@without
def command(  # noqa: PLR0913, PLR0917 - one argument per option
    cell: str,
    parameters: tuple[str, ...],
    repeat: int,
    signature: str | None,
    out: Path | None,
    without: tuple[str, ...],
) -> int:
    """Run one cell and speak `git bisect run`.

    A signal, a timeout or another failure of the program is never taken for the bug, and never ends the bisection.
    """
    try:
        return _check(cell, parameters, repeat, signature, out, without)
    except CrashcartError as error:
        click.echo(f"crashcart: {error.one_line()}", err=True)
        return SKIP


def _check(  # noqa: PLR0913, PLR0917 - as above
    cell: str,
    parameters: tuple[str, ...],
    repeat: int,
    signature: str | None,
    out: Path | None,
    without: tuple[str, ...],
) -> int:
    from harness.bisect.one import find_scenario
    from harness.plan import parse_selection
    from harness.run import Request, run

    name, params = parse_cell(cell)
    scenario = find_scenario(name)
    params |= {axis: values[0] for axis, values in parse_selection(parameters).items()}
    full = scenario.complete(params)
    directory = out or Path(tempfile.mkdtemp(prefix="crashcart-check-")) / "run"
    result = run(
        Request(
            scenarios=(scenario,),
            selection={axis: (value,) for axis, value in full.items()},
            until_reproduced=repeat,
            out=directory,
            without=frozenset(without),
            argv=tuple(sys.argv[1:]),
        )
    )
    (row,) = result.rows
    code = CODES.get(row.verdict, SKIP)
    if code == 1 and signature is not None and signature not in (row.signature or ""):
        code = SKIP
    reason = row.signature or (row.reasons[0] if row.reasons else "")
    click.echo(f"crashcart: {row.cell}: {row.verdict} {reason}; record in {directory}", err=True)
    return code


def parse_cell(cell: str) -> tuple[str, dict[str, str]]:
    """Return scenario and parameters of a cell id, or of a scenario's name.

    Raises:
        UsageError: If it is neither.
    """
    found = re.fullmatch(r"([\w.:-]+)(?:\[(.*)\])?", cell)
    parts = [part.partition("=") for part in (found[2] or "").split(",") if part] if found else []
    if found is None or not all(name and equals for name, equals, _ in parts):
        msg = f"{cell!r} is no cell"
        raise UsageError(msg, hint="cells look like actor_gc[verl=0.4.0,keep_parent=false]; see crashcart list")
    return found[1], {name: value for name, _, value in parts}
