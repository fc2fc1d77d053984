"""Rows of stored runs, read back from their directories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from harness.errors import RecordError
from harness.judge import Row
from harness.record import RESULTS, read_manifest

_row: Final = msgspec.json.Decoder(Row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """A row and the number of its line in ``results.jsonl``, from 1."""

    line: int
    row: Row


def load_rows(directory: Path) -> list[Row]:
    """Return the rows of a run.

    Raises:
        RecordError: If the directory holds no run, or no results yet.
    """
    return [one.row for one in load_numbered(directory)]


def load_numbered(directory: Path) -> list[Numbered]:
    """Return the rows of a run with the lines that they stand on.

    Raises:
        RecordError: If the directory holds no run, or no results yet.
    """
    read_manifest(directory)
    try:
        lines = (directory / RESULTS).read_bytes().splitlines()
        return [Numbered(line=number, row=_row.decode(line)) for number, line in enumerate(lines, 1) if line]
    except OSError as error:
        msg = f"{directory} has no readable {RESULTS}: {error.strerror}"
        raise RecordError(msg, hint=f"crashcart judge {directory} makes it from the events") from error
    except msgspec.DecodeError as error:
        msg = f"{directory / RESULTS} is damaged: {error}"
        raise RecordError(msg, hint=f"crashcart judge {directory} makes it anew from the events") from error
