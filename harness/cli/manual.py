"""Help as one expects it of a man page: after the options come examples, exit codes, environment and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

ALSO: Final = {"64": "wrong usage; one line says what, why and what to do", "70": "crashcart itself failed"}
"""Exit codes of a verb that does not speak for another program."""
SPEAKERS: Final = frozenset({"watch", "check"})
"""Verbs whose exit code is that of a program, or a word to one."""


class Manual(click.Command):
    """A verb whose help ends in sections; examples are printed as they stand, so that they can be copied.

    Args:
        examples: Command lines of at most 78 characters.
        codes: What each exit code means, besides those of `ALSO`.
        variables: Environment variables that the verb reads, or gives to the program.
        files: What it reads and writes.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - click's signature
        examples: Sequence[str] = (),
        codes: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        **kwargs: Any,  # noqa: ANN401 - click's signature
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        told = {**({} if self.name in SPEAKERS else ALSO), **(codes or {"0": "done"})}
        self.sections = {
            "Exit codes": {code: told[code] for code in sorted(told, key=lambda code: (len(code), code))},
            "Environment": variables or {},
            "Files": files or {},
        }

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{' ' * formatter.current_indent}{line}\n")
        for title, entries in self.sections.items():
            if entries:
                with formatter.section(title):
                    formatter.write_dl(list(entries.items()))
        super().format_epilog(ctx, formatter)
