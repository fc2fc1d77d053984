"""From a run directory to what the history keeps of it. Reads ``run.json``, ``results.jsonl`` and ``night.json``."""

from __future__ import annotations

import calendar
import os
import re
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.errors import RecordError
from harness.history.entries import Entry
from harness.judge import Row
from harness.record import EVENTS, RESULTS, Manifest, read_manifest

NIGHT: Final = "night.json"
TAIL: Final = 4096
VERSION: Final = re.compile(r"v?\d+\.\d+[\w.+-]*")
"""What an effective value looks like if it is a version; a rank or a size has no point."""

_row: Final = msgspec.json.Decoder(Row)


class NightMark(msgspec.Struct, frozen=True, kw_only=True):
    """``night.json``, which a nightly puts into its run directories: what this run was part of."""

    nightly: str
    night: str
    tracks: dict[str, str] = {}
    """Cell → track, for cells in which a version floats."""


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the history keeps of one run."""

    name: str
    path: str
    at: int
    machine: str
    crashcart: str
    night: str | None
    ended: bool
    entries: tuple[Entry, ...]


def machine_label(environment: dict[str, Any]) -> str:
    """Return what kind of machine it is, in words: no name of a host, so that equal runners share a history."""
    gpus = environment.get("gpus") or []
    counted = [f"{gpus.count(model)}× {model}" for model in dict.fromkeys(gpus)]
    memory = round(environment.get("memory_mib", 0) / 1024)
    parts = [environment.get("architecture", "?"), f"{environment.get('cores', '?')} cores", f"{memory} GiB"]
    return ", ".join([*parts, *(counted or ["no GPU"])])


def read_facts(directory: Path) -> RunFacts:
    """Read a run as far as it can be read; a line that is torn or damaged is a cell without a row.

    Raises:
        RecordError: If there is no readable ``run.json``.
    """
    manifest = read_manifest(directory)
    mark = _mark(directory)
    rows: dict[str, Row] = {}
    for line in _lines(directory / RESULTS):
        try:
            row = _row.decode(line)
        except msgspec.DecodeError:
            continue
        rows[row.cell] = row
    machine = machine_label(manifest.environment)
    at = _seconds(manifest, directory)
    return RunFacts(
        name=manifest.run,
        path=str(directory.absolute()),
        at=at,
        machine=machine,
        crashcart=manifest.crashcart,
        night=mark.night if mark else None,
        ended=has_ended(directory),
        entries=tuple(
            Entry(
                run=manifest.run,
                at=at,
                scenario=row.scenario,
                cell=row.cell,
                track=mark.tracks.get(row.cell, row.cell) if mark else row.cell,
                machine=machine,
                verdict=row.verdict,
                expected=row.expected,
                as_expected=row.as_expected,
                signature=row.signature,
                reason=row.reasons[0] if row.reasons else "",
                versions=versions_of(manifest, row),
                attempts=row.attempts,
                reproduced=row.reproduced,
                wall_s=row.wall_s,
                tok_s=(row.throughput or {}).get("output_tok_s"),
                path=str(directory.absolute()),
            )
            for row in rows.values()
        ),
    )


def versions_of(manifest: Manifest, row: Row) -> dict[str, str]:
    """Return the versions that a cell ran with: of the environment, and over them what the program really had."""
    environment = manifest.environment
    found = {"crashcart": manifest.crashcart}
    found |= {name: str(environment[name]) for name in ("python", "kernel", "rocm") if environment.get(name)}
    found |= environment.get("packages", {})
    found |= {
        name: value for name, value in row.effective.items() if isinstance(value, str) and VERSION.fullmatch(value)
    }
    return dict(sorted(found.items()))


def has_ended(directory: Path) -> bool:
    """Whether the log says that the run came to its end; a killed run never will."""
    try:
        with (directory / EVENTS).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL))
            return b'"run_ended"' in log.read().rstrip().rpartition(b"\n")[2]
    except OSError:
        return False


def _seconds(manifest: Manifest, directory: Path) -> int:
    try:
        return calendar.timegm(time.strptime(manifest.created, "%Y%m%dT%H%M%SZ"))
    except ValueError as error:
        msg = f"{directory} does not say when it was made: {manifest.created!r}"
        raise RecordError(msg) from error


def _mark(directory: Path) -> NightMark | None:
    try:
        return msgspec.json.decode((directory / NIGHT).read_bytes(), type=NightMark)
    except (OSError, msgspec.DecodeError):
        return None


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError:
        return []
