"""``crashcart watch``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from harness.causes import tell
from harness.cli.manual import Manual
from harness.cli.options import without
from harness.roles import role
from harness.spec import OnHang
from harness.supervise.hang import QUIET_S
from harness.supervise.loop import Status
from harness.watch import NOT_FOUND, CommandNotFoundError, Watched, WatchRequest, watch
from reports.formats import counted
from reports.publish import publish

MOST: Final = 20
"""So many findings are printed; the record has all."""


@click.command(
    "watch",
    cls=Manual,
    short_help="Supervise any command.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    examples=(
        "crashcart watch -- python train.py",
        "crashcart watch --timeout 600 --findings -- pytest tests/gpu",
    ),
    codes={
        "N": "the command's own code, whatever it is; with --findings: 0 none, 1 some",
        "128+N": "the command died of signal N",
        "124": "it was ended by --timeout or by --on-hang kill",
        "127": "there is no such command",
        "130": "Ctrl-C or SIGTERM; the tree was ended",
    },
    variables={
        "CRASHCART_WITHOUT": "capabilities that are to count as missing, as --without",
        "CRASHCART_PHASES": "given to the command: a file to which it may write phases, a line of JSON each",
        "CRASHCART_COOKIE": "given to the command: names this supervisor, so that survivors can be told",
    },
    files={
        "events.jsonl": "in the run directory: all that was seen, in order; readable at any moment",
        "cells/watch/1/stacks/": "stacks of a hang, and merged.txt, merged.json, merged.svg",
        "report.html": "the same for people; more forms lie beside it",
    },
)
@click.option("--timeout", "timeout_s", type=click.FloatRange(0, min_open=True), metavar="S", help="End it after S s.")
@click.option(
    "--on-hang",
    type=click.Choice([choice.value for choice in OnHang]),
    default=OnHang.CAPTURE.value,
    show_default=True,
    help="When it hangs: take stacks and let it be, or end it after that (exit code 124).",
)
@click.option(
    "--hang-after",
    "quiet_s",
    type=click.FloatRange(3),
    metavar="S",
    default=QUIET_S,
    show_default=True,
    help="So long may nothing move in a declared phase, or in a tree in which only polling goes on.",
)
@click.option(
    "--connector",
    is_flag=True,
    help="Use the kernel's process events, too: sees children that live for no time, and slows every fork a little.",
)
@click.option("--findings", "by_findings", is_flag=True, help="Exit with 0 if there were no findings, otherwise 1.")
@click.option("--out", type=click.Path(path_type=Path), help="The run directory itself; default runs/<time>-<id>.")
@without
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
def command(  # noqa: PLR0913, PLR0917 - one argument per option
    timeout_s: float | None,
    on_hang: str,
    quiet_s: float,
    connector: bool,  # noqa: FBT001 - a flag
    by_findings: bool,  # noqa: FBT001 - a flag
    out: Path | None,
    without: tuple[str, ...],
    argv: tuple[str, ...],
) -> int:
    """Supervise any command: every descendant with its exit status, what outlived it, what it left behind.

    The command keeps the terminal and its streams; crashcart writes to stderr, and only when it finds something and
    afterwards. Processes that outlive the command are named and left alone. Nothing is traced before a hang or a
    deadline has been recorded.
    """
    try:
        sources = ("connector",) if connector else ()
        request = WatchRequest(
            argv=argv,
            out=out,
            timeout_s=timeout_s,
            on_hang=OnHang(on_hang),
            quiet_s=quiet_s,
            sources=sources,
            without=frozenset(without),
        )
        watched = watch(request, _notice)
    except CommandNotFoundError as error:
        click.echo(f"crashcart: {error.one_line()}", err=True)
        return NOT_FOUND
    publish(watched.directory)
    _report(watched)
    return int(bool(watched.row.findings)) if by_findings else watched.code


def _told(finding: Mapping[str, Any]) -> str:
    if finding["finding"] == "hang":
        what = f"{finding['class']} ({'proved' if finding['proved'] else 'suspected'})"
    else:
        what = ", ".join(f"{key} {value}" for key, value in finding.items() if key not in {"finding", "reasons"})
    return what + "".join(f"\n      {line}" for line in finding.get("reasons", ()))


def _notice(status: Status) -> None:
    if status.state == "hung" and status.hang is not None:
        how = "proved" if status.hang.proved else "by the phase that it declared"
        click.echo(f"crashcart: the program hangs ({status.hang.suspicion}, {how}); taking stacks", err=True)
        for reason in status.hang.reasons[:MOST]:
            click.echo(f"  {reason}", err=True)


def _report(watched: Watched) -> None:
    processes = watched.attempt.processes
    known = sum(bool(process.status and process.status.known) for process in processes)
    alive = [process for process in processes if process.died_ns is None]
    click.echo(
        f"crashcart: {len(processes)} processes, {known} exit statuses known, "
        f"{counted(len(watched.row.findings), 'finding')}; record in {watched.directory}",
        file=sys.stderr,
    )
    for finding in watched.row.findings[:MOST]:
        click.echo(f"  {finding['finding']}: {_told(finding)}", err=True)
    if len(watched.row.findings) > MOST:
        click.echo(f"  and {len(watched.row.findings) - MOST} more: crashcart ps {watched.directory}", err=True)
    story = tell(watched.attempt)
    if story.first is not None and story.consequences:
        first = story.first
        click.echo(f"  first: {first.what} of {first.who} at {first.t_s:.3f} s: {first.detail}", err=True)
    for process in alive:
        click.echo(f"  still running: pid {process.key.pid} {role(process.name)} {process.name}", err=True)
