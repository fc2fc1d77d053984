"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def parameters(function: F) -> F:
    """Add ``-p AXIS=V1,V2``."""
    return click.option(
        "-p",
        "parameters",
        metavar="AXIS=V1,V2",
        multiple=True,
        help="Take only cells with these values; version axes accept other releases too. May be given several times.",
    )(function)


def without(function: F) -> F:
    """Add ``--without CAPABILITY``."""
    return click.option(
        "--without",
        metavar="NAME",
        multiple=True,
        envvar="CRASHCART_WITHOUT",
        help="Do as if a capability, CPU flag or package were not there (see crashcart doctor). CRASHCART_WITHOUT.",
    )(function)


def as_json(function: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, one object a line.")(function)
