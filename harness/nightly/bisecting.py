"""Names what made a cell fail, by ``crashcart bisect`` in a process of its own that goes on where it was killed."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from harness.bisect.axes import ordered
from harness.bisect.log import SETTINGS, read
from harness.bisect.one import find_scenario
from harness.bisect.session import RESULT
from harness.bisect.summary import Report
from harness.events import ProcessKey
from harness.history.entries import Entry, differing
from harness.nightly.config import Bisecting
from harness.nightly.night import write
from harness.nightly.planning import Planned
from harness.probes import proc
from harness.spec import Axis

OWNER: Final = "owner.json"
VECTORS: Final = "vectors.txt"


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """The process that drives a bisection."""

    pid: int
    start: int


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A change that could be searched for, and what came of it."""

    track: str
    good: dict[str, str]
    bad: dict[str, str]
    """What is installed in other versions, in the last pass and in the first failure."""
    folder: str = ""
    sentence: str = ""
    named: bool = False
    culprit: str | None = None
    fresh: bool = False
    """Whether it came to its end tonight."""
    again: str = ""
    """The command that goes on with it, or repeats it."""


def suspects(planned: Planned, passed: Entry, failed: Entry) -> dict[str, tuple[Axis, str, str]]:
    """Return package → (axis, good, bad), for what differs and can be put in place per run."""
    scenario = find_scenario(planned.target)
    axes = {axis.package: axis for axis in scenario.axes if axis.package}
    return {
        package: (axes[package], good, bad)
        for package, (good, bad) in differing(passed, failed).items()
        if package in axes and "-" not in {good, bad}
    }


def folder_of(base: Path, planned: Planned, passed: Entry, failed: Entry) -> Path:
    """Return where the search for one change lies: the same for the same track and the same two runs."""
    key = hashlib.sha256(f"{planned.track} {passed.run} {failed.run}".encode()).hexdigest()[:8]
    return base / f"{planned.cell.scenario}-{failed.run}-{key}"


def result_of(folder: Path) -> Report | None:
    """Return what a bisection came to, or ``None`` if it has not ended."""
    try:
        return msgspec.json.decode((folder / RESULT).read_bytes(), type=Report)
    except (OSError, msgspec.DecodeError):
        return None


def options(
    planned: Planned,
    found: Mapping[str, tuple[Axis, str, str]],
    settings: Bisecting,
    folder: Path,
) -> list[str]:
    """Return the arguments for ``crashcart bisect``: one axis by its versions, several by a path from good to bad."""
    axes = {axis.name for axis, _, _ in found.values()}
    chosen = [f"-p{name}={value}" for name, value in planned.cell.params.items() if name not in axes]
    if len(found) == 1:
        ((package, (axis, good, bad)),) = found.items()
        listed = settings.candidates.get(package)
        versions = [f"--versions={','.join(ordered([*listed, good, bad]))}"] if listed else []
        over = [f"--axis={axis.name}", f"--good={good}", f"--bad={bad}", *versions]
    else:
        path = vector_path({package: (good, bad) for package, (_, good, bad) in found.items()}, settings.candidates)
        listing = folder.with_name(f"{folder.name}.{VECTORS}")
        listing.write_text("".join(f"{line}\n" for line in path))
        over = [f"--vector={listing}", f"--good={path[0]}", f"--bad={path[-1]}"]
    return [planned.target, *chosen, *over]


def vector_path(ends: Mapping[str, tuple[str, str]], candidates: Mapping[str, Sequence[str]]) -> list[str]:
    """Return vectors from all good to all bad, one package after the other, through its candidates if they are known.

    On such a path the first failing vector names the package and the version at once.
    """
    now = {package: good for package, (good, _) in ends.items()}
    path = [dict(now)]
    for package, (good, bad) in ends.items():
        listed = ordered([*candidates.get(package, ()), good, bad])
        begin, end = listed.index(good), listed.index(bad)
        step = 1 if begin < end else -1
        for version in listed[begin + step : None if end + step < 0 else end + step : step]:
            now[package] = version
            path.append(dict(now))
    return [" ".join(f"{package}=={version}" for package, version in point.items()) for point in path]


def search(arguments: Sequence[str], settings: Bisecting, hours: float, folder: Path, without: Sequence[str]) -> str:
    """Run a bisection to its end, or go on with it, for so many hours more; return its last line on stderr.

    Raises:
        KeyboardInterrupt: If this process is told to end; the bisection is ended first, and keeps what it has.
    """
    spent = sum(one.wall_s + one.switch_s for one in read(folder).observations) / 3600
    budget = [f"--budget-runs={settings.runs}", f"--budget-hours={hours + spent:.4f}", f"--out={folder}", "--json"]
    away = [f"--without={name}" for name in without]
    begun = (folder / SETTINGS).exists()
    command = [sys.executable, "-m", "harness", "bisect", *([] if begun else [*arguments, *away]), *budget]
    end_owner(folder)
    errors = folder.with_name(f"{folder.name}.log")
    with (
        errors.open("ab") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log) as process,
    ):
        stat = proc.read_stat(process.pid)
        write(_owner(folder), Owner(pid=process.pid, start=stat.start if stat else 0))
        try:
            process.wait()
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
    _owner(folder).unlink(missing_ok=True)
    lines = errors.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("crashcart: ") if lines else f"it ended with {process.returncode}"


def end_owner(folder: Path) -> None:
    """End the bisection that a nightly which was killed has left at work: two would write one log."""
    try:
        owner = msgspec.json.decode(_owner(folder).read_bytes(), type=Owner)
    except (OSError, msgspec.DecodeError):
        return
    key = ProcessKey(owner.pid, owner.start)
    if not proc.is_alive(key):
        return
    click.echo(f"crashcart: ending the bisection that was left at work, pid {owner.pid}", err=True)
    descriptor = os.pidfd_open(owner.pid)
    try:
        if proc.is_alive(key):
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            select.select([descriptor], [], [], 120)
    finally:
        os.close(descriptor)


def _owner(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.{OWNER}")
