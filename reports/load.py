"""Rows of stored runs, read back from their directories."""

from __future__ import annotations

from pathlib import Path

import msgspec

from harness.errors import RecordError
from harness.judge import Row
from harness.record import RESULTS, read_manifest


def load_rows(directory: Path) -> list[Row]:
    """Return the rows of a run.

    Raises:
        RecordError: If the directory holds no run, or no results yet.
    """
    read_manifest(directory)
    try:
        lines = (directory / RESULTS).read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Row) for line in lines if line]
    except OSError as error:
        msg = f"{directory} has no readable {RESULTS}: {error.strerror}"
        raise RecordError(msg, hint=f"crashcart judge {directory} makes it from the events") from error
    except msgspec.DecodeError as error:
        msg = f"{directory / RESULTS} is damaged: {error}"
        raise RecordError(msg, hint=f"crashcart judge {directory} makes it anew from the events") from error
