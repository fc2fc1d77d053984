"""What ``crashcart history`` prints. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import msgspec
from tabulate import tabulate

from harness.history.entries import Change, Entry, Standing, differing
from harness.history.speed import speed_of

ONLY: Final = ("failing", "flaky", "newly-failing", "newly-fixed", "untested")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """How one track stands on one kind of machine, as ``--json`` prints it."""

    track: str
    machine: str
    state: str
    change: Change
    flaky: bool
    since: str | None
    since_run: str | None
    newest_run: str
    verdict: str
    signature: str | None
    tok_s: float | None
    evidence: str


def when(seconds: int) -> str:
    """Return a time as people read it, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))


def state_of(stands: Standing) -> str:
    """Return how a track stands in a word or two."""
    if stands.since is None:
        return "never tested"
    word = "failing" if stands.failing else "passing"
    return f"{word}, flaky" if stands.flaky else word


def line_of(name: str, stands: Standing) -> Line:
    """Return the line of a track."""
    newest, since = stands.newest, stands.since
    return Line(
        track=name,
        machine=newest.machine,
        state=state_of(stands),
        change=stands.change,
        flaky=stands.flaky,
        since=when(since.at) if since else None,
        since_run=since.run if since else None,
        newest_run=newest.run,
        verdict=newest.verdict.value,
        signature=newest.signature,
        tok_s=newest.tok_s,
        evidence=newest.path,
    )


def wanted(stands: Standing, only: str | None) -> bool:
    """Whether a track is of those that ``--only`` asks for."""
    match only:
        case "failing":
            return stands.failing
        case "flaky":
            return stands.flaky
        case "newly-failing":
            return stands.change is Change.NEWLY_FAILING
        case "newly-fixed":
            return stands.change is Change.NEWLY_FIXED
        case "untested":
            return stands.change is Change.NOT_TESTED
        case _:
            return True


def overview(lines: Sequence[Line]) -> str:
    """Return the table of all tracks."""
    several = len({line.machine for line in lines}) > 1
    rows = [
        (
            line.track,
            *((line.machine,) if several else ()),
            line.state,
            line.since or "-",
            line.change.value,
            line.signature or "-",
            f"{line.tok_s:.0f}" if line.tok_s else "-",
        )
        for line in lines
    ]
    headers = ("cell", *(("machine",) if several else ()), "state", "since", "last run", "signature", "tok/s")
    return tabulate(rows, headers=headers, disable_numparse=True)


def timeline(name: str, stands: Standing, entries: Sequence[Entry]) -> str:
    """Return how one cell stands and its entries, newest first, each with what was installed anew."""
    since = f" since {when(stands.since.at)} ({stands.since.run})" if stands.since else ""
    lines = [f"{name} on {stands.newest.machine}: {state_of(stands)}{since}; last run: {stands.change.value}"]
    if stands.turned_from is not None and stands.since is not None:
        changed = _changes(stands.turned_from, stands.since) or "nothing that is recorded"
        lines.append(f"different from the run before that ({stands.turned_from.run}): {changed}")
    speed = speed_of(entries)
    if speed is not None:
        lines.append(f"speed: {speed}")
    rows = []
    for index, entry in enumerate(entries):
        tries = f" {entry.reproduced}/{entry.attempts}" if entry.attempts > 1 else ""
        rows.append(
            (
                entry.run,
                f"{entry.verdict.value}{tries}" + (" ✗" if entry.as_expected is False else ""),
                entry.signature or (entry.reason[:60] if entry.fails is None else "-"),
                f"{entry.tok_s:.0f}" if entry.tok_s else "-",
                f"{entry.wall_s:.1f}",
                _changes(entries[index - 1], entry) if index else "",
            )
        )
    table = tabulate(
        rows[::-1], headers=("run", "verdict", "signature", "tok/s", "s", "changed"), disable_numparse=True
    )
    return "\n".join([*lines, "", table])


def _changes(a: Entry, b: Entry) -> str:
    return ", ".join(f"{name} {old} → {new}" for name, (old, new) in differing(a, b).items())
