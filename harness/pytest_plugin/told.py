"""Reads what the child has told, as far as it was really the child of this attempt that told it."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pytest

from harness.pytest_plugin.child import TOLD

Phase = Literal["setup", "call", "teardown"]


@dataclass(slots=True, kw_only=True)
class Told:
    """What came back: reports by phase, and how the child left the protocol if not by its end."""

    reports: dict[str, pytest.TestReport] = field(default_factory=dict)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    exit: dict[str, Any] | None = None
    interrupt: str = ""
    internal: str = ""
    ended: bool = False
    """Whether the child came to its own end, threads and exit handlers included."""

    @property
    def missing(self) -> Phase | None:
        """The first phase that was not reported; ``None`` if the protocol is complete."""
        if "setup" not in self.reports:
            return "setup"
        if self.reports["setup"].passed and "call" not in self.reports:
            return "call"
        return None if "teardown" in self.reports else "teardown"


def read_told(config: pytest.Config, folder: Path, nonce: str, pid: int) -> Told:
    """Read the reports of an attempt; lines of other processes, without the nonce or torn are passed over."""
    told = Told()
    try:
        data = (folder / TOLD).read_bytes()
    except OSError:
        return told
    for raw in data.split(b"\n"):
        try:
            line = json.loads(raw)
        except ValueError:
            continue
        if isinstance(line, dict) and line.get("nonce") == nonce and line.get("pid") == pid:
            _take(config, told, line)
    return told


def replay_warnings(config: pytest.Config, told: Told) -> None:
    """Let pytest record the warnings of the child as if they had been given here."""
    for said in told.warnings:
        message = warnings.WarningMessage(
            message=said["text"],
            category=_category(*said["category"]),
            filename=said["filename"],
            lineno=said["lineno"],
        )
        location = tuple(said["location"]) if said["location"] else None
        config.hook.pytest_warning_recorded.call_historic(
            kwargs={"warning_message": message, "when": said["when"], "nodeid": said["nodeid"], "location": location}
        )


def _take(config: pytest.Config, told: Told, line: dict[str, Any]) -> None:
    match line:
        case {"report": data}:
            report = config.hook.pytest_report_from_serializable(config=config, data=_with_tuples(data))
            told.reports[report.when] = report
        case {"warning": said}:
            told.warnings.append(said)
        case {"exit": said}:
            told.exit = said
        case {"interrupt": text}:
            told.interrupt = text
        case {"internal": text}:
            told.internal = text
        case {"end": _}:
            told.ended = True


def _with_tuples(data: dict[str, Any]) -> dict[str, Any]:
    """Give back the tuples that JSON has made lists of; other plugins look at their type."""
    data["location"] = tuple(data["location"])
    data["user_properties"] = [tuple(pair) for pair in data["user_properties"]]
    data["sections"] = [tuple(pair) for pair in data["sections"]]
    if isinstance(data["longrepr"], list):
        data["longrepr"] = tuple(data["longrepr"])
    return data


def _category(module: str, name: str) -> type[Warning]:
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return UserWarning
    return found if isinstance(found, type) and issubclass(found, Warning) else UserWarning
