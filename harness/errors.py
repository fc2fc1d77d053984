"""Every expected failure of crashcart itself, with its exit code and what to do next.

Messages are fragments that fit after ``crashcart: ``; `CrashcartError.hint` is the next command or step.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of ``run``, ``judge`` and ``nightly``; a child's own code is never passed on."""

    OK = 0
    UNEXPECTED = 1
    NO_VERDICT = 2
    USAGE = 64
    INTERNAL = 70
    INTERRUPTED = 130


class CrashcartError(Exception):
    """Base of all expected failures.

    Args:
        message: What went wrong and why, one line.
        hint: The next command or step.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def one_line(self) -> str:
        """Return message and hint as the one line that the user sees."""
        return f"{self}; {self.hint}" if self.hint else str(self)


class UsageError(CrashcartError):
    """The request itself cannot be carried out: unknown scenario, axis, value, file, pid."""

    exit_code = ExitCode.USAGE


class RecordError(UsageError):
    """A run directory is missing, has no readable ``run.json``, or is of a newer schema."""


class EnvironmentBuildError(CrashcartError):
    """A version environment could not be built; carries the resolver's reason. The cell is ``untestable``."""


class RecordingError(CrashcartError):
    """The record could not be written, for example on a full disk. The cell is ``no_verdict``."""
