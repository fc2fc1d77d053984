"""Which changes are searched tonight, and what came of each; what is known already is not searched again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from harness.bisect.session import RESULT
from harness.nightly.bisecting import Search, folder_of, options, result_of, search, suspects
from harness.nightly.news import Finding, Kind
from harness.nightly.night import Night, State


def searches(state: State, night: Night, findings: Sequence[Finding]) -> tuple[list[Search], list[str]]:
    """Bisect each change that has no result yet, within the night's hours; what was found before is said again."""
    settings = night.config.bisect
    found, notes = [], []
    until = time.monotonic() + settings.hours * 3600
    plans = {one.track: one for one in night.cells}
    for one in findings:
        if one.to_bisect is None:
            continue
        passed, failed = one.to_bisect
        plan = plans[one.track]
        differs = suspects(plan, passed, failed)
        ends = {name: (good, bad) for name, (_, good, bad) in differs.items()}
        said = Search(
            track=one.track,
            good={name: good for name, (good, _) in ends.items()},
            bad={name: bad for name, (_, bad) in ends.items()},
        )
        if not differs:
            if Kind.NEWLY_FAILING in one.news:
                notes.append(f"{one.track}: nothing differs that could be bisected; crashcart history shows what does")
            continue
        folder = folder_of(state.bisections, plan, passed, failed)
        error = ""
        if settings.enabled and result_of(folder) is None and time.monotonic() < until:
            arguments = options(plan, differs, settings, folder)
            click.echo(f"crashcart: bisecting {one.track}", err=True)
            error = search(arguments, settings, (until - time.monotonic()) / 3600, folder, night.config.without)
        found.append(_said(said, folder, error, night.begun))
    return found, notes


def _said(one: Search, folder: Path, error: str, begun: float) -> Search:
    result = result_of(folder)
    again = f"crashcart bisect --out {folder} --budget-runs N --budget-hours H"
    if result is None:
        why = error or "not begun: bisecting is switched off, or the hours of the night are spent"
        return msgspec.structs.replace(one, folder=str(folder), sentence=why, again=again if error else "")
    return msgspec.structs.replace(
        one,
        folder=str(folder),
        sentence=result.sentence,
        named=result.named,
        culprit=result.culprit,
        fresh=(folder / RESULT).stat().st_mtime >= begun,
        again=again,
    )
