"""What a supervised program may say to its supervisor: phases, observations and the end-of-run nonce.

Only the standard library: a child program imports this before any runtime. A program that was started without
crashcart can call everything here, too; nothing is written then.

The channel is one append-only file of JSON lines, named in ``CRASHCART_PHASES``. Every line is written by a single
``write`` on a descriptor opened with ``O_APPEND``, so that the processes of one tree can share the file.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias

COOKIE: Final = "CRASHCART_COOKIE"
"""Environment variable that marks every process of an attempt; its value is unique to the attempt."""
PHASES: Final = "CRASHCART_PHASES"
"""Environment variable that names the phase file."""
NONCE: Final = "CRASHCART_NONCE"
"""Environment variable with the word that a program says when it has come to its end."""
PARAMS: Final = "CRASHCART_PARAMS"
"""Environment variable with the parameters of the cell, a JSON object of strings."""
OVERLAYS: Final = "CRASHCART_OVERLAYS"
"""Environment variable with the folders of the releases that the cell asked for, a JSON object by package."""
SCRATCH: Final = "CRASHCART_SCRATCH"
"""Environment variable with a short-named folder of the attempt; kept only as far as the evidence needs it."""

MAX_CAUSES: Final = 10
STYLE: Final = re.compile(r"\x1b\[[0-9;]*m")
"""Colours of a terminal (ECMA-48, select graphic rendition), which a record does not want."""

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def params() -> dict[str, str]:
    """Return the parameters of the cell that this program was started for, empty outside crashcart."""
    loaded: dict[str, str] = json.loads(os.environ.get(PARAMS, "{}"))
    return loaded


def scratch() -> Path:
    """Return a folder for sockets, models and session files; short enough for a Unix socket below it."""
    return Path(os.environ.get(SCRATCH, "/tmp"))  # noqa: S108 - only outside crashcart


def mark(name: str, **data: Json) -> None:
    """Record an observation: something that has happened at this moment, with what belongs to it.

    Args:
        name: What was observed, in snake_case, for example ``engine_ready``.
        data: Facts of the observation; values must be JSON.
    """
    _write({"mark": name, "data": data})


def observe_error(name: str, error: BaseException) -> None:
    """Record an exception with its whole chain of causes, outermost first."""
    mark(name, error=chain(error))


def chain(error: BaseException) -> list[Json]:
    """Return types and texts of an exception and its causes, outermost first, as an observation's ``error``."""
    found: list[Json] = []
    current: BaseException | None = error
    while current is not None and len(found) < MAX_CAUSES:
        kind = type(current)
        found.append({"type": f"{kind.__module__}.{kind.__qualname__}", "text": STYLE.sub("", str(current))[:4000]})
        current = current.__cause__ or current.__context__
    return found


def path_without(*packages: str) -> str:
    """Return ``PYTHONPATH`` without the asked-for releases of these packages, for children that are to have others."""
    folders = json.loads(os.environ.get(OVERLAYS, "{}"))
    left_out = {folders[package] for package in packages if package in folders}
    return os.pathsep.join(
        entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry not in left_out
    )


@contextmanager
def phase(name: str, **data: Json) -> Iterator[None]:
    """Declare that work is outstanding until the block ends; leaving by an exception ends it as failed."""
    _write({"phase": name, "state": "begin", "data": data})
    try:
        yield
    except BaseException as error:
        _write({"phase": name, "state": "failed", "data": {"error": type(error).__name__}})
        raise
    _write({"phase": name, "state": "end", "data": {}})


def finish() -> None:
    """Say the nonce: the program has come to its intended end. Without it no attempt is ever ``absent``."""
    _write({"nonce": os.environ.get(NONCE, "")})


def _write(line: dict[str, Json]) -> None:
    path = os.environ.get(PHASES)
    if not path:
        return
    line |= {"pid": os.getpid(), "t_ns": time.monotonic_ns()}
    with suppress(OSError):  # a full disk must not change the program; the supervisor notices it by itself
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            os.close(descriptor)
