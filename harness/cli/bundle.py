"""``crashcart bundle``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from harness.cli.manual import Manual
from harness.errors import UsageError

VENDORS = ("vllm", "sglang", "ray", "verl", "pytorch", "nvidia", "amd")


@click.command(
    "bundle",
    cls=Manual,
    short_help="Make a redacted bug report.",
    examples=(
        "crashcart bundle runs/latest --for ray",
        "crashcart bundle runs/latest --for vllm \\",
        "    --cell 'nested_spawn[host=process,api=LLM,backend=default]'",
    ),
    codes={
        "0": "written",
        "1": "refused: a secret was still found in the finished archive",
        "64": "nothing to report, or wrong usage",
    },
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--for", "vendor", type=click.Choice(VENDORS), required=True, help="Whose bug tracker it is for.")
@click.option("--cell", metavar="ID", help="The failing cell to report; by default the first that was reproduced.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Name of the archive (.zip).")
@click.option("--no-redact", is_flag=True, help="Leave secrets, names, addresses and paths as they are.")
@click.option(
    "--env-file", type=click.Path(path_type=Path), metavar="FILE", help="NAME=VALUE lines: more secrets to look for."
)
@click.option("--accept-unknown", is_flag=True, help="Go on although a secret of the run is not known here.")
def command(  # noqa: PLR0913, PLR0917 - click passes one argument per option
    run: Path,
    vendor: str,
    cell: str | None,
    out: Path | None,
    no_redact: bool,  # noqa: FBT001 - click
    env_file: Path | None,
    accept_unknown: bool,  # noqa: FBT001 - click
) -> int:
    """Make a bug report of a failing cell: an archive, and a text in the shape of the project's own template.

    The archive holds the record, logs, stacks and environment of the cell, a reproducer of one file that runs without
    crashcart, and a manifest of what is missing and why. Nothing is sent anywhere. Secrets are taken out, and people,
    machines and folders get pseudonyms; what they stand for is kept on this machine alone (docs/redaction.md). Call it
    where the secrets of the run are set, so that they can be looked for.
    """
    from reports.vendor.bundle import Request, bundle
    from reports.vendor.vendors import VENDORS as TEMPLATES

    made = bundle(
        Request(
            run=run,
            vendor=TEMPLATES[vendor],
            cell=cell,
            out=out,
            redact=not no_redact,
            variables={**os.environ, **(_read(env_file) if env_file else {})},
            accept_unknown=accept_unknown,
        )
    )
    click.echo(f"crashcart: {made.cell}", err=True)
    for one in made.missing:
        click.echo(f"  missing: {one['what']} ({one['why']})", err=True)
    if made.map_file is not None:
        click.echo(
            f"  replaced: {sum(made.replaced.values())} places; pseudonyms: {made.map_file} (yours alone)", err=True
        )
    else:
        click.echo("  NOT REDACTED: it holds secrets, names and paths as they were", err=True)
    click.echo(f"  read {made.issue} before you post it: {TEMPLATES[vendor].where}", err=True)
    click.echo(made.archive)
    click.echo(made.issue)
    return 0


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise UsageError(message, hint="it should hold one NAME=VALUE a line") from error
    pairs = (line.removeprefix("export ").partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("'\"") for name, _, value in pairs}
