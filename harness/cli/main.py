"""The ``crashcart`` command: one module per verb, loaded only when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

from harness import __version__
from harness.errors import CrashcartError, ExitCode

VERBS: Final[dict[str, str]] = {
    "run": "Run cells of scenarios and print the comparison table.",
    "list": "List scenarios, axes, cells and upstream references.",
    "doctor": "Say what this machine can do, and which cells cannot run here and why.",
    "judge": "Judge a stored run again.",
    "report": "Print stored runs: table, Markdown, page, CSV, JSON, JUnit XML, trace.",
    "compare": "Compare two stored runs cell by cell; exit 1 if a verdict flipped.",
    "bundle": "Make a redacted bug report in the shape of a project's own template, with a reproducer.",
    "ps": "List every process of a stored run.",
    "bisect": "Name the version, the commit or the knob that makes the difference.",
    "check": "Run one cell for `git bisect run`: 0 absent, 1 reproduced, 125 anything else.",
    "watch": "Supervise any command and keep a record of it.",
    "history": "Show what became of each cell over all runs: failing, flaky, newly failing, newly fixed.",
    "nightly": "Run what a configuration says, compare it with history, bisect what is new.",
    "snapshot": "Show stacks, states and waits of a live process tree.",
}


class Verbs(click.Group):
    """Lists the verbs without importing them, so that ``--help`` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the verbs in the order in which one needs them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one verb."""
        if cmd_name not in VERBS:
            return None
        command = import_module(f"harness.cli.{cmd_name}").command
        assert isinstance(command, click.Command)  # noqa: S101 - narrows the type of a dynamic import
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the verbs with their help, which stands here so that no verb need be imported."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="crashcart")
def cli() -> None:
    """Reproduce known failures of distributed ML runtimes, and see everything while they happen.

    Progress and logs go to stderr, results to stdout. Exit codes of run and judge: 0 all as expected, 1 something was
    not as expected, 2 no verdict or untestable here, 64 wrong usage, 70 internal error.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit by contract; an expected failure is one line on stderr."""
    try:
        code = cli.main(args=list(args) if args is not None else None, prog_name="crashcart", standalone_mode=False)
    except CrashcartError as error:
        click.echo(f"crashcart: {error.one_line()}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"crashcart: {error.format_message()}; see crashcart --help", err=True)
        sys.exit(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("crashcart: interrupted", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.OK)
    sys.exit(code if isinstance(code, int) else ExitCode.OK)
