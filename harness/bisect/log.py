"""A bisection on disk: its settings, written once, and an append-only log of runs, flushed before the next one begins.

``bisect.json`` and ``log.jsonl`` lie in the directory of the bisection, the runs in ``runs/``. A run leaves a
``started`` line when it begins and a ``finished`` one with its observation; a torn last line is ignored.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from harness.bisect.decide import Observation
from harness.bisect.knobs import KnobSettings
from harness.bisect.one import Target
from harness.bisect.steps import Settings, Task
from harness.errors import RecordError, RecordingError

SCHEMA: Final = 1
SETTINGS: Final = "bisect.json"
LOG: Final = "log.jsonl"


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """A run has begun; without a line that it finished, the crashcart that recorded it was killed."""

    number: int
    task: Task
    directory: str
    runner: int = 0
    pid: int = 0
    born: float = 0.0
    """When the process began, as the kernel counts: with the pid it names the process for good."""


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag="finished"):
    """A run has ended."""

    observation: Observation


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """``bisect.json``."""

    schema: int = SCHEMA
    crashcart: str
    target: Target
    settings: Settings | None = None
    """Of a search over versions."""
    axis: dict[str, str] = {}
    """What is needed to prepare a version again, such as the repository and the build command."""
    knobs: KnobSettings | None = None
    """Of a search over knobs."""
    argv: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a log says."""

    observations: tuple[Observation, ...]
    unfinished: tuple[Started, ...]
    """Runs that began and of which nobody wrote how they ended."""
    runs: int
    """Numbers given so far."""


class BisectLog:
    """Appends to one log.

    Raises:
        RecordingError: From any method, if the file system refuses.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._file = os.open(directory / LOG, flags, 0o644)
        except OSError as error:
            msg = f"cannot write {directory / LOG}: {error.strerror}"
            raise RecordingError(msg, hint="name another directory with --out") from error
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and (directory / LOG).read_bytes()[-1:] != b"\n"

    def write(self, line: Started | Finished) -> None:
        """Append one line and wait until it is on disk."""
        data = (b"\n" if self._torn else b"") + msgspec.json.encode(line) + b"\n"
        try:
            self._torn = os.write(self._file, data) != len(data)
            os.fsync(self._file)
        except OSError as error:
            msg = f"cannot record the bisection: {error.strerror}"
            raise RecordingError(msg, hint="free space and give the same command again: it goes on") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def save(directory: Path, saved: Saved) -> None:
    """Write ``bisect.json`` in one step.

    Raises:
        RecordingError: If it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        temporary = directory / f".{SETTINGS}.{os.getpid()}"
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(saved)))
        temporary.replace(directory / SETTINGS)
    except OSError as error:
        msg = f"cannot write {directory / SETTINGS}: {error.strerror}"
        raise RecordingError(msg, hint="name another directory with --out") from error


def load(directory: Path) -> Saved:
    """Read ``bisect.json``.

    Raises:
        RecordError: If it is missing, damaged, or of a newer schema.
    """
    try:
        saved = msgspec.json.decode((directory / SETTINGS).read_bytes(), type=Saved)
    except OSError as error:
        msg = f"{directory} holds no bisection: cannot read {SETTINGS}: {error.strerror}"
        raise RecordError(msg, hint="name the directory that `crashcart bisect` wrote") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"{directory / SETTINGS} is damaged: {error}"
        raise RecordError(msg, hint="start the bisection anew in another directory") from error
    if saved.schema != SCHEMA:
        msg = f"{directory / SETTINGS} has schema {saved.schema}, this crashcart reads {SCHEMA}"
        raise RecordError(msg, hint="read it with the crashcart that wrote it")
    return saved


def read(directory: Path) -> Recorded:
    """Read the log as far as it can be read; without a file it is empty."""
    try:
        lines = (directory / LOG).read_bytes().splitlines()
    except OSError:
        return Recorded((), (), 0)
    decoder = msgspec.json.Decoder(Started | Finished)
    started: dict[int, Started] = {}
    observations: dict[int, Observation] = {}
    for line in lines:
        try:
            entry = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if isinstance(entry, Started):
            started[entry.number] = entry
        else:
            observations[entry.observation.number] = entry.observation
    unfinished = tuple(entry for number, entry in started.items() if number not in observations)
    return Recorded(tuple(observations.values()), unfinished, max([0, *started, *observations]))
