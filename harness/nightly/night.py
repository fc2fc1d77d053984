"""A night on disk: its frozen plan, the lock that one nightly at a time holds, and what belongs to it.

``STATE/runs`` holds the run directories and the history, ``STATE/nights/NIGHT`` the plan and the summary, and
``STATE/bisections`` one folder for each change that was searched. Nothing is kept in memory alone: a nightly that was
killed finds its plan and its finished rows, and does the rest.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from harness.errors import RecordingError
from harness.history.facts import NIGHT, NightMark
from harness.nightly.config import Config
from harness.nightly.planning import NightError, Planned
from harness.record import link_latest, new_run_id

PLAN: Final = "plan.json"
SUMMARY: Final = "summary.json"
DONE: Final = "done.json"


class Night(msgspec.Struct, frozen=True, kw_only=True):
    """``plan.json``: what was to be done tonight, decided once."""

    schema: int = 1
    night: str
    begun: float
    """Seconds since 1970."""
    config: Config
    versions: dict[str, str]
    cells: tuple[Planned, ...]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """``done.json``: the night is over."""

    exit_code: int
    ended: float
    notified: str = ""
    """What became of the notification; empty where there was none to send."""


class State:
    """The folders of a nightly.

    Raises:
        RecordingError: If they cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self.nights = folder / "nights"
        self.bisections = folder / "bisections"
        try:
            for one in (self.runs, self.nights, self.bisections):
                one.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"cannot make {one}: {error.strerror}"
            raise RecordingError(msg, hint="name another folder with state = in the configuration") from error

    def of(self, night: str) -> Path:
        """Return the folder of a night."""
        return self.nights / night

    def past(self) -> Iterator[Night]:
        """Yield the nights that can be read, newest first."""
        for folder in sorted(self.nights.iterdir(), reverse=True):
            if folder.is_symlink():
                continue
            try:
                yield msgspec.json.decode((folder / PLAN).read_bytes(), type=Night)
            except (OSError, msgspec.DecodeError):
                continue

    def unfinished(self, config: Config) -> Night | None:
        """Return the night that was cut short, if it is still the same one that would begin now."""
        newest = next(self.past(), None)
        if newest is None or (self.of(newest.night) / DONE).exists():
            return None
        fresh = time.time() - newest.begun < config.resume_hours * 3600
        return newest if fresh and newest.config == config else None

    def begin(self, config: Config, versions: dict[str, str], cells: tuple[Planned, ...]) -> Night:
        """Write the plan of a new night."""
        night = Night(night=new_run_id(), begun=time.time(), config=config, versions=versions, cells=cells)
        folder = self.of(night.night)
        folder.mkdir()
        write(folder / PLAN, night)
        link_latest(folder)
        return night

    def runs_of(self, night: str) -> list[Path]:
        """Return the run directories of a night, in the order in which they were begun."""
        return [folder for folder in sorted(self.runs.iterdir()) if not folder.is_symlink() and _mark(folder) == night]


def write(path: Path, value: msgspec.Struct) -> None:
    """Write a value in one step.

    Raises:
        RecordingError: If the file system refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(value)))
        temporary.replace(path)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise RecordingError(msg, hint="free space and give the same command again: it goes on") from error


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends.

    Raises:
        NightError: If another nightly holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        msg = f"cannot open the lock {path}: {error.strerror}"
        raise RecordingError(msg) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            msg = f"another nightly is at work: {who} holds {path}"
            raise NightError(msg, hint="wait for it; one that is killed gives the lock back") from error
        os.ftruncate(descriptor, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
        os.pwrite(descriptor, f"pid {os.getpid()} since {since}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _mark(directory: Path) -> str | None:
    try:
        return msgspec.json.decode((directory / NIGHT).read_bytes(), type=NightMark).night
    except (OSError, msgspec.DecodeError):
        return None
