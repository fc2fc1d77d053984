"""One tree out of the stacks that a capture took: text, JSON and a picture beside the single dumps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.events import ProcessKey, StacksCaptured
from harness.probes.threads import Wait
from harness.stacks import dumps, render
from harness.stacks.as_json import as_json
from harness.stacks.kernel import kernel_stacks
from harness.stacks.merge import merge
from harness.stacks.model import Process, ThreadStack
from harness.stacks.suspect import Findings, suspects
from harness.stacks.svg import svg

TEXT: Final = "merged.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedStacks:
    """What the merge says: the text of at most 200 lines, the same as JSON, a picture, and who stands out."""

    text: str
    document: Mapping[str, Any]
    picture: str
    findings: Findings


def merge_captures(
    captures: Sequence[StacksCaptured], names: Mapping[ProcessKey, str], folder: Path
) -> MergedStacks | None:
    """Merge the dumps of a capture; of each process the best one, and what /proc says where no tool gave a stack.

    Args:
        captures: The events of the capture; their paths are relative to ``folder``.
        names: The titles of the processes.
        folder: The folder of the attempt.

    Returns:
        ``None`` if there is not a single stack.
    """
    stacks: list[ThreadStack] = []
    dumped: set[ProcessKey] = set()
    for captured in captures:
        if captured.path and captured.tool != "proc":
            process = Process.of(captured.key, names.get(captured.key, ""))
            found = dumps.parse((folder / captured.path).read_text(errors="replace"), process, partial=captured.partial)
            stacks += found
            dumped |= {captured.key} if found else set()
    for captured in captures:
        if captured.tool == "proc" and captured.path and captured.key not in dumped:
            waits = msgspec.json.decode((folder / captured.path).read_bytes(), type=list[Wait])
            stacks += kernel_stacks(Process.of(captured.key, names.get(captured.key, "")), waits)
    if not stacks:
        return None
    merged = merge(stacks)
    findings = suspects(merged)
    return MergedStacks(
        text=render.text(merged, findings),
        document=as_json(merged, findings),
        picture=svg(merged, findings),
        findings=findings,
    )


def write_merged(merged: MergedStacks, folder: Path) -> None:
    """Write ``merged.txt``, ``merged.json`` and ``merged.svg``."""
    (folder / TEXT).write_text(merged.text)
    (folder / "merged.json").write_text(json.dumps(merged.document))
    (folder / "merged.svg").write_text(merged.picture)
