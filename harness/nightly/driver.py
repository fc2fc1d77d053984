"""One night from its configuration to its exit code.

The stages, each of which finds on disk what an earlier start has done: prepare, plan, run, compare, bisect, bundle,
tell, prune. Runs are made in this process, by `harness.run`; bisections and bundles by their own commands.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from harness.errors import ExitCode
from harness.history.retention import prune
from harness.history.store import History, open_history
from harness.nightly.bundles import bundles
from harness.nightly.config import Config
from harness.nightly.load import load
from harness.nightly.news import Finding, alarming, finding
from harness.nightly.night import DONE, SUMMARY, Done, Night, State, lock, write
from harness.nightly.notify import notify, notify_failure
from harness.nightly.planning import NightError, Planned, planned, versions_tonight
from harness.nightly.running import finished_rows, run_what_is_left
from harness.nightly.searches import searches
from harness.nightly.summary import Summary, markdown, page, text, track_of
from harness.probes.machine import read_environment
from harness.run import exit_code


def nightly(path: Path, *, json: bool) -> int:
    """Do what is left of tonight and return the exit code by contract.

    Raises:
        CrashcartError: If the configuration is wrong, another nightly is at work, or the night cannot be begun.
    """
    config = load(path)
    home = path.absolute().parent
    state = State(home / config.state)
    with lock(home / config.lock if config.lock else state.folder / "lock"), _interruptible():
        night = state.unfinished(config)
        if night is None:
            night = _begin(config, state, home)
        else:
            click.echo(f"crashcart: going on with night {night.night}", err=True)
        summary = _do(state, night)
        return _finish(state, night, summary, home, json=json)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end the night as Ctrl-C does; a run in progress has handlers of its own."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _begin(config: Config, state: State, home: Path) -> Night:
    try:
        if config.prepare:
            _prepare(config, home)
        versions = versions_tonight(config)
        environment = read_environment(frozenset(config.without))
        return state.begin(config, versions, planned(config, versions, environment))
    except NightError as error:
        if config.notify is not None:
            click.echo(f"crashcart: {notify_failure(config.notify, config.name, error.one_line(), home)}", err=True)
        raise


def _prepare(config: Config, home: Path) -> None:
    click.echo(f"crashcart: preparing: {' '.join(config.prepare)}", err=True)
    try:
        done = subprocess.run(
            config.prepare, cwd=home, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False,
            timeout=config.prepare_minutes * 60,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"the environment cannot be prepared: {error}"
        raise NightError(msg, hint="try the command of prepare = by hand") from error
    if done.returncode:
        msg = f"the environment cannot be prepared: the command ended with {done.returncode}"
        raise NightError(msg, hint="try the command of prepare = by hand; what it said stands above")


def _do(state: State, night: Night) -> Summary:
    run_what_is_left(state, night)
    rows = finished_rows(state, night)
    with open_history(state.runs) as history:
        findings = list(_findings(history, state, night))
    looked, notes = searches(state, night, findings)
    code = exit_code(list(rows.values()), [one.cell for one in night.cells])
    lost = [f"left no row: {one.cell.id}" for one in night.cells if one.cell.id not in rows]
    if lost and code is ExitCode.OK:
        code = ExitCode.NO_VERDICT
    alarm = ExitCode.UNEXPECTED if alarming(findings) else code
    missing = [*_missing(state, night), *lost]
    packed, more = bundles(state, night, findings)
    return Summary(
        nightly=night.config.name,
        night=night.night,
        machine=findings[0].stands.newest.machine if findings else "",
        versions=night.versions,
        exit_code=alarm,
        quiet=not missing and not any(one.news for one in findings) and not any(one.fresh for one in looked),
        tracks=tuple(track_of(one) for one in findings),
        searches=tuple(looked),
        runs=tuple(str(directory) for directory in state.runs_of(night.night)),
        bundles=tuple(packed),
        notes=(*missing, *notes, *more),
    )


def _findings(history: History, state: State, night: Night) -> Iterator[Finding]:
    """Yield how each cell of the night stands; of machines, that of tonight's runs."""
    tonight = {directory.name for directory in state.runs_of(night.night)}
    for one in night.cells:
        for machine in history.machines():
            stands = history.standing(one.track, machine)
            if stands is None or Path(stands.newest.path).name not in tonight:
                continue
            entries = history.newest(one.track, machine)
            earlier = [entry for entry in entries[:-1] if Path(entry.path).name not in tonight]  # less what was cut
            yield finding(one.track, stands, [*earlier, stands.newest])


def _missing(state: State, night: Night) -> list[str]:
    """Return what the night before ran and this one did not: a cell that vanishes must not vanish unseen."""
    before = next((one for one in state.past() if one.night < night.night), None)
    if before is None:
        return []
    now = {one.track for one in night.cells}
    return [f"no longer run: {one.track}" for one in before.cells if one.track not in now]


def _finish(state: State, night: Night, summary: Summary, home: Path, *, json: bool) -> int:
    """Write the summary, tell it once, delete what is old, and close the night."""
    folder = state.of(night.night)
    write(folder / SUMMARY, summary)
    (folder / "summary.md").write_text(markdown(summary))
    (folder / "summary.html").write_text(page(summary, list(_links(folder, summary))))
    settings = night.config.notify
    sent = ""
    if settings is not None and (settings.always or not summary.quiet):
        sent = notify(settings, summary, folder / "summary.md", home)
        click.echo(f"crashcart: notification: {sent}", err=True)
    write(folder / DONE, Done(exit_code=summary.exit_code, ended=time.time(), notified=sent))
    if night.config.keep is not None:
        with open_history(state.runs) as history:
            gone = prune(history, int(time.time()) - night.config.keep.days * 86400)
        click.echo(f"crashcart: {len(gone)} runs older than {night.config.keep.days} days deleted", err=True)
    click.echo(msgspec.json.encode(summary).decode() if json else text(summary))
    click.echo(f"crashcart: summary in {folder}, page {folder / 'summary.html'}", err=True)
    return summary.exit_code


def _links(folder: Path, summary: Summary) -> Iterator[tuple[str, str]]:
    for directory in summary.runs:
        yield os.path.relpath(Path(directory) / "report.html", folder), f"run {Path(directory).name}"
    for one in summary.searches:
        if one.folder and (Path(one.folder) / "report.html").exists():
            yield os.path.relpath(Path(one.folder) / "report.html", folder), f"bisection of {one.track}"


def cells_tonight(config: Config) -> tuple[dict[str, str], tuple[Planned, ...]]:
    """Return what would be run tonight, without running anything."""
    versions = versions_tonight(config)
    return versions, planned(config, versions, read_environment(frozenset(config.without)))
