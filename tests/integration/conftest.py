"""Runs of the toy scenario with real processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.run import Request, Result, run
from tests.toy import SCENARIO

ToyRun = Callable[..., Result]


@pytest.fixture
def toy(tmp_path: Path) -> ToyRun:
    """Return a function that runs cells of the toy scenario into a directory of the test."""

    def start(repeat: int = 1, without: frozenset[str] = frozenset(), **selection: str) -> Result:
        return run(
            Request(
                scenarios=(SCENARIO,),
                selection={axis: (value,) for axis, value in selection.items()},
                repeat=repeat,
                without=without,
                out=tmp_path / f"run-{len(list(tmp_path.iterdir()))}",
            )
        )

    return start
