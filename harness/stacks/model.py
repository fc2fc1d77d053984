"""The values that every tool's output becomes: a frame, a process, the stack of one thread at one moment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from harness.events import ProcessKey
from harness.roles import role

# Titles that runtimes give to their processes, with the rank in them: ``VLLM::Worker_TP1``, ``VLLM::Worker_DP1_TP0``.
_RANK_IN_TITLE: Final = re.compile(r"\bVLLM::Worker(?:_[A-Z]+\d+)*_TP(\d+)|\brank[ =_-]?(\d+)\b", re.IGNORECASE)
_RANK_VARIABLES: Final = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")


class Frame(msgspec.Struct, frozen=True):
    """One call. ``function`` and ``file`` carry no address, no arguments and no folder, so that ranks compare equal."""

    function: str
    """Python: the qualified name as far as the tool knows it. Native: without parameters and template arguments."""
    file: str = ""
    """Base name of the source file, else of the library (``libc.so``, its version cut off), else empty."""
    line: int | None = None
    native: bool = False

    @property
    def name(self) -> str:
        """The part of the function's name that all tools agree on: py-spy says ``Thread.run``, pystack ``run``."""
        return self.function if self.native else self.function.rpartition(".")[2]

    def __str__(self) -> str:
        """Show the frame as ``function (file:line)``, with what is known of it."""
        place = f"{self.file}:{self.line}" if self.line is not None else self.file
        return f"{self.function} ({place})" if place else self.function


class Process(msgspec.Struct, frozen=True):
    """Whose stack it is. Two processes are the same if ``host`` and ``key`` are; the rest describes them."""

    key: ProcessKey
    title: str = ""
    role: str = "other"
    rank: int | None = None
    host: str = ""

    @classmethod
    def of(cls, key: ProcessKey, title: str, rank: int | None = None, host: str = "") -> Process:
        """Make a process from its title: the role, and the rank where none is given, are read off it."""
        return cls(key, title, role(title), rank_of(title) if rank is None else rank, host)


class ThreadStack(msgspec.Struct, frozen=True):
    """What one tool saw of one thread at one moment."""

    process: Process
    frames: tuple[Frame, ...]
    """Outermost first. Empty if the tool saw the thread and none of its frames."""
    thread_id: int = 0
    """The kernel's thread id; 0 if the tool did not say."""
    thread_name: str = ""
    state: str = ""
    """In the tool's words: ``idle``, ``active`` (py-spy), a letter of /proc, or empty."""
    holds_gil: bool | None = None
    """``None`` where the tool cannot tell."""
    waits: str = ""
    """What the tool says the thread waits for (``gil``), or empty."""
    sample: int = 0
    """Which of the repeated captures this is, from 0."""
    tool: str = ""
    partial: bool = False
    """The dump was cut off, or the tool could not unwind to the end: the stack may lack frames on either side."""
    unseen: bool = False
    """Python does not know of this thread, though it knows of others of its process: mostly one of a library."""


def rank_of(title: str, environment: Mapping[str, str] | None = None) -> int | None:
    """Return the rank that a process declares in its environment or in its title; ``None`` if it declares none."""
    for variable in _RANK_VARIABLES:
        value = (environment or {}).get(variable, "")
        if value.isdecimal():
            return int(value)
    found = _RANK_IN_TITLE.search(title)
    return int(found[1] or found[2]) if found else None
