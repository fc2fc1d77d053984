"""Packs a report for a vendor of each run with a new failure, by ``crashcart bundle``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.cli.main import VERBS
from harness.nightly.news import ALARMS, Finding
from harness.nightly.night import Night, State
from harness.plan import cell_folder

BUNDLE_S: Final = 600


def bundles(state: State, night: Night, findings: Sequence[Finding]) -> tuple[list[str], list[str]]:
    """Pack a report of each new failure, if this crashcart can; return the archives, and what to note."""
    if night.config.bundle is None:
        return [], []
    if "bundle" not in VERBS:
        return [], ["no bundles: this crashcart has no `bundle`"]
    made, notes = [], []
    for one in findings:
        newest = one.stands.newest
        if not newest.fails or not ALARMS.intersection(one.news):
            continue
        out = state.of(night.night) / "bundles" / f"{cell_folder(newest.cell)}.zip"
        if not out.exists():
            out.parent.mkdir(exist_ok=True)
            note = _pack(Path(newest.path), newest.cell, night.config.bundle.vendor, out)
            if note is not None:
                notes.append(f"no bundle of {newest.cell}: {note}")
                continue
        made.append(str(out))
    return made, notes


def _pack(run: Path, cell: str, vendor: str, out: Path) -> str | None:
    """Return why there is no archive, or ``None``."""
    command = [sys.executable, "-m", "harness", "bundle", str(run), f"--for={vendor}", f"--cell={cell}"]
    try:
        done = subprocess.run([*command, f"--out={out}"], capture_output=True, text=True, timeout=BUNDLE_S, check=False)
    except subprocess.TimeoutExpired as error:
        return str(error)
    if done.returncode or not out.exists():
        return " ".join(done.stderr.split())[-300:]
    return None
