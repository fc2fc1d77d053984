"""Entries and run directories in short, for the tests of the history."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness import events
from harness.history.entries import Entry
from harness.history.facts import NIGHT, NightMark
from harness.judge import Row
from harness.outcome import Kind, VerdictName
from harness.plan import Cell
from harness.record import Manifest, Recorder

LETTERS = {
    "P": VerdictName.ABSENT,
    "F": VerdictName.REPRODUCED,
    "G": VerdictName.REPRODUCED,
    "O": VerdictName.OTHER_FAILURE,
    "n": VerdictName.NO_VERDICT,
    "u": VerdictName.UNTESTABLE,
}
SIGNATURES = {"F": "SIGSEGV", "G": "SIGBUS", "O": "no nonce"}
DAY = 86400
CELL = "toy[behaviour=healthy]"


def entries(letters: str, versions: str = "", step_s: int = DAY) -> list[Entry]:
    """Return one entry a day: P passes, F, G and O fail with other signatures, n and u say nothing."""
    versions = versions or "1" * len(letters)
    return [
        Entry(
            run=f"run{number:03d}",
            at=1_700_000_000 + number * step_s,
            scenario="toy",
            cell=CELL,
            track=CELL,
            machine="x86_64, 2 cores, 24 GiB, no GPU",
            verdict=LETTERS[letter],
            signature=SIGNATURES.get(letter),
            versions={"ray": version},
        )
        for number, (letter, version) in enumerate(zip(letters, versions, strict=True))
    ]


def speeds(values: Sequence[float]) -> list[Entry]:
    """Return passing entries with throughputs, one a day."""
    return [
        msgspec.structs.replace(entry, tok_s=value)
        for entry, value in zip(entries("P" * len(values)), values, strict=True)
    ]


def row(run: str, cell: str, letter: str, **more: Any) -> Row:  # noqa: ANN401 - fields of a row
    """Return a result row."""
    fields: dict[str, Any] = {
        "params": {}, "effective": {"patches": []}, "kind": Kind.NATIVE, "control_of": None, "expected": None,
        "as_expected": None, "reasons": ("because",), "attempts": 1, "reproduced": int(letter in "FG"), "rate": None,
        "processes": {}, "findings": (), "gpu": {}, "throughput": None, "wall_s": 1.0, "evidence": "",
    }  # fmt: skip
    return Row(
        run=run,
        scenario=cell.partition("[")[0],
        cell=cell,
        verdict=LETTERS[letter],
        signature=SIGNATURES.get(letter),
        **(fields | more),
    )


def record(  # noqa: PLR0913 - what a run may differ in
    folder: Path,
    number: int,
    rows: dict[str, str],
    *,
    ended: bool = True,
    tracks: dict[str, str] | None = None,
    environment: dict[str, Any] | None = None,
    **more: Any,  # noqa: ANN401 - fields of a row
) -> Path:
    """Write the run directory of one day, with a row of a letter for each cell."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(1_700_000_000 + number * DAY))
    name = f"{stamp}-{number:06x}"
    cells = tuple(Cell(scenario=cell.partition("[")[0], id=cell, params={}, kind=Kind.NATIVE) for cell in rows)
    machine = {"architecture": "x86_64", "cores": 2, "memory_mib": 24 * 1024, "packages": {"ray": "2.60.0"}}
    manifest = Manifest(
        run=name, created=stamp, crashcart="0", argv=(), cells=cells, environment=machine | (environment or {})
    )
    recorder = Recorder(folder / name, manifest)
    for cell, letter in rows.items():
        recorder.write_row(row(name, cell, letter, **more))
    if ended:
        recorder.write(events.RunEnded())
    recorder.close()
    if tracks is not None:
        mark = NightMark(nightly="n", night=f"night{number}", tracks=tracks)
        (folder / name / NIGHT).write_bytes(msgspec.json.encode(mark))
    return folder / name
