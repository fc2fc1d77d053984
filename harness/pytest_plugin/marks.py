"""What the marks on a test say, as values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

import pytest

VENDORS: Final = {"cuda": "nvidia", "rocm": "amd"}


class Policy(StrEnum):
    """What is done about something that a test has left: it fails, or only the record says so."""

    FAIL = "fail"
    REPORT = "report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """How a test is supervised; times in seconds."""

    hang_after: float | None = None
    """For how long nothing may move. Without it only a hang that is proved ends the test."""
    timeout: float | None = None
    orphans: Policy = Policy.FAIL
    shm: Policy = Policy.FAIL
    gpu_memory: Policy = Policy.FAIL
    reruns: int = 0
    """How often a failed test is run again; every attempt is kept, and one that passes late is flaky."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """The GPUs that a test needs."""

    count: int = 1
    vendor: str | None = None
    memory_gib: float | None = None
    arch: str | None = None
    nvlink: bool = False

    def describe(self) -> str:
        """Return it in words, for a skip."""
        words = [str(self.count), *filter(None, (self.vendor, self.arch)), "GPU" if self.count == 1 else "GPUs"]
        words += [f"with {self.memory_gib:g} GiB"] if self.memory_gib else []
        words += ["linked by NVLink"] if self.nvlink else []
        return " ".join(words)


def read_guard(marks: Iterable[pytest.Mark], flaky: pytest.Mark | None, defaults: Mapping[str, Any]) -> Guard:
    """Merge the ``supervised`` marks of a test, the closest first; ``flaky(reruns=)`` of pytest-rerunfailures counts.

    Raises:
        pytest.UsageError: If one of them cannot be understood.
    """
    merged: dict[str, Any] = {}
    for mark in marks:
        _no_positional(mark, {one.name for one in fields(Guard)})
        merged = {**mark.kwargs, **merged}
    if flaky is not None and "reruns" not in merged:
        merged["reruns"] = flaky.kwargs.get("reruns", flaky.args[0] if flaky.args else 1)
    merged = {**defaults, **merged}
    for name in ("orphans", "shm", "gpu_memory"):
        if name in merged:
            merged[name] = _policy(name, merged[name])
    for name in ("hang_after", "timeout"):
        if merged.get(name) is not None and not _is_positive(merged[name]):
            msg = f"@pytest.mark.supervised({name}={merged[name]!r}): give seconds, more than 0"
            raise pytest.UsageError(msg)
    if type(merged.get("reruns", 0)) is not int or merged.get("reruns", 0) < 0:
        msg = f"@pytest.mark.supervised(reruns={merged['reruns']!r}): give a whole number, 0 or more"
        raise pytest.UsageError(msg)
    return Guard(**merged)


def read_want(marks: Sequence[pytest.Mark]) -> Want | None:
    """Return what ``gpu``, ``cuda`` or ``rocm`` asks for; the closest of them counts.

    Raises:
        pytest.UsageError: If it cannot be understood.
    """
    if not marks:
        return None
    mark = marks[0]
    allowed = {one.name for one in fields(Want)} - ({"vendor"} if mark.name in VENDORS else set())
    _no_positional(mark, allowed)
    said = {"vendor": VENDORS[mark.name], **mark.kwargs} if mark.name in VENDORS else dict(mark.kwargs)
    if type(said.get("count", 1)) is not int or said.get("count", 1) < 1:
        msg = f"@pytest.mark.{mark.name}(count={said['count']!r}): give a whole number, 1 or more"
        raise pytest.UsageError(msg)
    if said.get("vendor") not in {None, "nvidia", "amd"}:
        msg = f"@pytest.mark.gpu(vendor={said['vendor']!r}): say 'nvidia' or 'amd'"
        raise pytest.UsageError(msg)
    if said.get("memory_gib") is not None and not _is_positive(said["memory_gib"]):
        msg = f"@pytest.mark.{mark.name}(memory_gib={said['memory_gib']!r}): give GiB, more than 0"
        raise pytest.UsageError(msg)
    return Want(**said)


def _no_positional(mark: pytest.Mark, allowed: set[str]) -> None:
    unknown = [repr(value) for value in mark.args] + [name for name in mark.kwargs if name not in allowed]
    if unknown:
        msg = f"@pytest.mark.{mark.name} does not take {unknown[0]}; it takes {', '.join(sorted(allowed))}, by name"
        raise pytest.UsageError(msg)


def _policy(name: str, value: object) -> Policy:
    if value not in set(Policy):
        msg = f"@pytest.mark.supervised({name}={value!r}): say 'fail' or 'report'"
        raise pytest.UsageError(msg)
    return Policy(str(value))


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
