"""``crashcart snapshot``."""

from __future__ import annotations

import json

import click

from harness.cli.manual import Manual
from harness.cli.options import as_json, without
from harness.snapshot import snapshot


@click.command(
    "snapshot",
    cls=Manual,
    short_help="Look at a live tree.",
    examples=(
        "crashcart snapshot 4711",
        'crashcart snapshot "$(pgrep -of train.py)" --json > snapshot.json',
    ),
    codes={"0": "whatever was seen", "64": "there is no such process, or wrong usage"},
    variables={"CRASHCART_WITHOUT": "capabilities that are to count as missing, as --without"},
)
@click.argument("pid", type=click.IntRange(1))
@without
@as_json
def command(pid: int, without: tuple[str, ...], as_json: bool) -> int:  # noqa: FBT001 - a flag
    """Show stacks, states and waits of a live process and all its descendants, merged; kills nothing.

    Python and native frames stand in one tree; processes that look alike are one class; what cannot be woken any more
    is named with what it waits for. Each process is stopped for the moment in which its stack is read; how long
    that was is measured and shown.
    """
    seen = snapshot(pid, frozenset(without))
    if as_json:
        click.echo(json.dumps(seen.document()))
        return 0
    click.echo(f"{len(seen.names)} processes, {len(seen.graph.nodes)} threads, in {seen.seconds:.1f} s")
    for key, name in seen.names.items():
        seconds, error = seen.held(key)
        paused = f"held {seconds:.3f} ± {error:.3f} s" if seconds else f"held < {error:.3f} s" if error else "not held"
        click.echo(f"  {key.pid:>8} {seen.states[key]} {len(seen.graph.of(key)):>4} threads  {paused}  {name[:100]}")
    for held in seen.gpu:
        click.echo(f"  {'this tree' if held.ours else 'another'}: {held.reason}")
    if seen.deadlocked:
        click.echo("\ndeadlock: nothing that exists can wake these any more")
        for reason in seen.reasons:
            click.echo(f"  {reason}")
    click.echo("\n" + (seen.merged.text if seen.merged is not None else "no stack could be taken"))
    for captured in seen.captures:
        if captured.partial:
            click.echo(f"pid {captured.key.pid}: {captured.tool}: {captured.detail}", err=True)
    return 0
