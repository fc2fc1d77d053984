"""``crashcart bisect``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from harness.cli.manual import Manual
from harness.cli.options import as_json, parameters, without


@click.command(
    "bisect",
    cls=Manual,
    short_help="Name the version or the knob that makes the difference.",
    examples=(
        "crashcart bisect actor_gc --axis verl --first-fixed",
        "crashcart bisect command --git . --good v1 --bad main --build 'make' \\",
        "    -- ./repro.sh",
        "crashcart bisect timeout_retries -p trigger=twice --knobs knobs.toml \\",
        "    --out hunt",
        "crashcart bisect --replay hunt",
    ),
    codes={"0": "a culprit is named", "2": "undecided, with the reason"},
    variables={
        "CRASHCART_WITHOUT": "capabilities that are to count as missing, as --without",
        "CRASHCART_CACHE": "where other releases and the tiny model lie; default: below ~/.cache",
        "CRASHCART_CHECKOUT, CRASHCART_COMMIT": "given to --build and CMD: the worktree and its commit",
    },
)
@click.argument("scenario", required=False)
@click.argument("command_line", nargs=-1, metavar="[-- CMD...]")
@parameters
@click.option("--axis", metavar="NAME", help="A version axis of the scenario, or a package.")
@click.option("--versions", metavar="V1,V2", help="These versions; default: all releases that the index has.")
@click.option("--wheels", type=click.Path(path_type=Path), help="A folder of wheels, or a list of paths and URLs.")
@click.option("--dates", metavar="FROM..TO", help="Nightlies of these days, with --template.")
@click.option("--template", metavar="VERSION", help="Version of a nightly, like 2.14.0.dev{date}.")
@click.option("--pre", is_flag=True, help="Pre-releases, too.")
@click.option("--vector", type=click.Path(path_type=Path), help="A file of version vectors: torch==2.12.0 vllm==0.31.0")
@click.option("--git", type=click.Path(path_type=Path), help="A repository; every commit gets a worktree of its own.")
@click.option("--build", metavar="CMD", help="Builds a commit, in its worktree.")
@click.option("--artefact", metavar="PATH", help="What the build makes; the same on both sides is suspicious.")
@click.option("--images", metavar="I1,I2", help="Container images, oldest first.")
@click.option("--knobs", type=click.Path(path_type=Path), help="A TOML file of differences; finds the smallest set.")
@click.option("--good", metavar="VERSION", help="A version without the failure; default: one end of the range.")
@click.option("--bad", metavar="VERSION", help="A version with it; where it is older, the fix is searched for.")
@click.option("--first-fixed", is_flag=True, help="Search for the fix, where the ends are not named.")
@click.option("--rate", type=click.FloatRange(0, 1, min_open=True), help="Reproduction rate, if it is known.")
@click.option("--stop", type=click.FloatRange(0.5, 1, min_open=True, max_open=True), help="Posterior to stop at.")
@click.option("--signature", metavar="TEXT", help="Part of the signature that counts; default: that of the bad end.")
@click.option("--pattern", metavar="REGEX", help="What a failing CMD prints; default: it ends with exit code 1.")
@click.option("--deadline", type=float, default=600.0, show_default=True, help="Seconds that CMD may take.")
@click.option("--budget-runs", type=click.IntRange(1), help="Runs, at most.")
@click.option("--budget-hours", type=float, help="Hours, at most.")
@click.option("--switch-cost", type=float, help="Seconds that going to another version takes; default: as measured.")
@click.option("--fail-cost", type=float, help="Seconds that a failing run takes (a hang: its deadline).")
@click.option("--runners", type=click.IntRange(1), default=1, show_default=True, help="Runs at the same time.")
@click.option("--scouts", type=click.IntRange(0), default=2, show_default=True, help="Looks before the culprit.")
@click.option("--out", type=click.Path(path_type=Path), help="Directory; one that holds a bisection is gone on with.")
@click.option("--replay", type=click.Path(path_type=Path), help="Say what a stored bisection says; runs nothing.")
@click.option("--git-log", is_flag=True, help="With --replay: print it for `git bisect replay`.")
@without
@as_json
def command(**options: Any) -> int:  # noqa: ANN401 - click's options, typed by their declarations above
    """Find the first version that fails, the first that is fixed, or the knobs that make the difference.

    Both ends are checked first. Every run goes through the supervisor; only `reproduced` with the wanted signature and
    `absent` count. Culprit and parent are interleaved in the end. Killed at any moment, the same command with the same
    --out goes on.
    """
    from harness.bisect.session import replay, start

    if options["replay"] is not None:
        return replay(options["replay"], git=options["git_log"], json=options["as_json"])
    return start(options, tuple(sys.argv[1:]))
