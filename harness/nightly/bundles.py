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

BUNDLE_S: Final = 600


def bundles(state: State, night: Night, findings: Sequence[Finding]) -> tuple[list[str], list[str]]:
    """Pack a report of each run with a new failure, if this crashcart can."""
    if night.config.bundle is None:
        return [], []
    if "bundle" not in VERBS:
        return [], ["no bundles: this crashcart has no `bundle`"]
    made, notes = [], []
    bad = [one for one in findings if ALARMS.intersection(one.news)]
    for directory in dict.fromkeys(one.stands.newest.path for one in bad):
        out = state.of(night.night) / "bundles" / Path(directory).name
        if out.exists():
            made.append(str(out))
            continue
        out.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "harness", "bundle", directory, f"--for={night.config.bundle.vendor}"]
        try:
            done = subprocess.run(
                [*command, f"--out={out}"], capture_output=True, text=True, timeout=BUNDLE_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            notes.append(f"no bundle of {directory}: {error}")
            continue
        if done.returncode or not out.exists():
            notes.append(f"no bundle of {directory}: {' '.join(done.stderr.split())[-200:]}")
        else:
            made.append(str(out))
    return made, notes
