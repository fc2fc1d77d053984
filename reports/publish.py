"""What a run directory holds for people and CI systems besides the record: pages, tables, JUnit XML, trace."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from reports.formats import to_csv
from reports.junit import to_junit
from reports.load import load_rows
from reports.log import Log
from reports.markdown import to_markdown
from reports.page import Page
from reports.trace import write_trace

WRITERS: Final[dict[str, Callable[[Path, Log], str | None]]] = {
    "results.csv": lambda directory, _: to_csv(load_rows(directory)),
    "report.md": lambda directory, _: to_markdown(load_rows(directory)),
    "junit.xml": lambda directory, log: to_junit([directory], [log]),
    "report.html": lambda directory, log: Page(directory, log).render(),
}


def _to_stderr(text: str) -> None:
    click.echo(text, err=True)


def publish(directory: Path, say: Callable[[str], None] = _to_stderr) -> list[Path]:
    """Write every report of a run beside its record and return those that were written.

    Never raises for what can go wrong with a report: the run itself is over and recorded. Each failure is one note.
    A file is replaced in one step, so that a reader never sees half of one.
    """
    written = []
    log = Log(directory)
    for name in (*WRITERS, "trace.json"):
        path = directory / name
        temporary = directory / f".{name}.{os.getpid()}"
        try:
            _write(directory, name, temporary, log)
            temporary.replace(path)
        except Exception as error:  # noqa: BLE001 - whatever a report trips over, the run stands
            say(f"crashcart: no {name} ({type(error).__name__}: {error}); crashcart report {directory} tries again")
            temporary.unlink(missing_ok=True)
        else:
            written.append(path)
    return written


def _write(directory: Path, name: str, temporary: Path, log: Log) -> None:
    if name == "trace.json":
        with temporary.open("wb") as out:
            write_trace(directory, out, log)
    else:
        temporary.write_text(WRITERS[name](directory, log) or "", encoding="utf-8")
