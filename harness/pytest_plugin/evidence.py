"""Where the evidence of supervised tests lies: ``ROOTDIR/.crashcart/<session>/<test>/``, each an ordinary run."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from harness import __version__
from harness.judge import PYTEST
from harness.outcome import Kind
from harness.plan import Cell
from harness.probes.machine import describe, read_environment
from harness.record import Manifest, new_run_id

FOLDER: Final = pytest.StashKey[Path]()


def session_folder(config: pytest.Config) -> Path:
    """Return the folder of this session, the same in all workers; it is made when the first test needs it."""
    if FOLDER not in config.stash:
        given = getattr(config, "workerinput", {}).get("crashcart")
        if given is not None:
            config.stash[FOLDER] = Path(given)
        else:
            base = config.option.crashcart_dir
            config.stash[FOLDER] = Path(base).absolute() if base else config.rootpath / ".crashcart" / new_run_id()
    return config.stash[FOLDER]


def make_session_folder(config: pytest.Config) -> Path:
    """Make the folder of this session; version control is told to pass over it.

    Raises:
        pytest.UsageError: If it cannot be made.
    """
    folder = session_folder(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark = (folder if config.option.crashcart_dir else folder.parent) / ".gitignore"
        if not mark.exists():
            mark.write_text("*\n")
    except OSError as error:
        msg = f"crashcart cannot keep evidence in {folder}: {error.strerror}; name another folder with --crashcart-dir"
        raise pytest.UsageError(msg) from error
    return folder


def remove_if_empty(config: pytest.Config) -> None:
    """Remove the folder of a session that has left no evidence."""
    folder = config.stash.get(FOLDER, None)
    if folder is not None and not config.option.crashcart_dir:
        with suppress(OSError):
            folder.rmdir()


def cell_of(item: pytest.Item) -> Cell:
    """Return the test as a cell, so that every report of crashcart can show it."""
    return Cell(scenario=PYTEST, id=f"{PYTEST}[{item.nodeid}]", params={}, kind=Kind.NATIVE)


def new_folder(parent: Path, cell: Cell) -> Path:
    """Return a name that is free: a test may run several times in one session."""
    name = cell.folder.removeprefix(f"{PYTEST}-")
    folder, number = parent / name, 1
    while folder.exists():
        number += 1
        folder = parent / f"{name}-{number}"
    return folder


def manifest(cell: Cell, folder: Path) -> Manifest:
    """Return what ``run.json`` says of one test; call it before the fork, so that the machine is read only once."""
    run = new_run_id()
    return Manifest(
        run=run,
        created=run.partition("-")[0],
        crashcart=__version__,
        argv=("pytest", cell.id.removeprefix(f"{PYTEST}[").removesuffix("]"), "in", folder.parent.name),
        cells=(cell,),
        environment=_environment(),
    )


@cache
def _environment() -> dict[str, Any]:
    """Read once per process: asking every installed distribution takes a tenth of a second."""
    return describe(read_environment())
