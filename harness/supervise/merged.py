"""One tree out of the stacks that a capture took: text, JSON and a picture beside the single dumps."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.events import ProcessKey, StacksCaptured, StoodAt
from harness.probes.threads import Wait
from harness.stacks import dumps, render
from harness.stacks.as_json import as_json
from harness.stacks.kernel import kernel_stacks
from harness.stacks.merge import merge
from harness.stacks.model import Process, ThreadStack
from harness.stacks.suspect import Findings, suspects
from harness.stacks.svg import svg

TEXT: Final = "merged.txt"
STANDING_PROCESSES: Final = 8
STANDING_THREADS: Final = 8
STANDING_FRAMES: Final = 24
"""How many processes, threads of each and calls of each are told as events; more is in the files."""


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
    stacks = _dumped(captures, names, folder)
    dumped = {stack.process.key for stack in stacks}
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


def standing(captures: Sequence[StacksCaptured], first: Collection[ProcessKey], folder: Path) -> list[StoodAt]:
    """Return where the threads of a few processes stood, those of ``first`` before the others."""
    chosen = sorted(captures, key=lambda captured: captured.key not in first)
    keys = list(dict.fromkeys(captured.key for captured in chosen if captured.tool != "proc"))[:STANDING_PROCESSES]
    stacks = _dumped([captured for captured in chosen if captured.key in keys], {}, folder)
    told: list[StoodAt] = []
    for key in keys:
        threads = sorted((one for one in stacks if one.process.key == key and one.frames), key=_main_first)
        told += [
            StoodAt(
                key=key,
                thread=one.thread_name or str(one.thread_id),
                frames=tuple(str(frame) for frame in reversed(one.frames[-STANDING_FRAMES:])),
            )
            for one in threads[:STANDING_THREADS]
        ]
    return told


def _main_first(stack: ThreadStack) -> tuple[bool, bool]:
    return stack.thread_id != stack.process.key.pid, not stack.thread_name


def _dumped(captures: Sequence[StacksCaptured], names: Mapping[ProcessKey, str], folder: Path) -> list[ThreadStack]:
    """Return the threads in the dumps of tools."""
    stacks: list[ThreadStack] = []
    for captured in captures:
        if captured.path and captured.tool != "proc":
            process = Process.of(captured.key, names.get(captured.key, ""))
            text = (folder / captured.path).read_text(errors="replace")
            stacks += dumps.parse(text, process, partial=captured.partial)
    return stacks


def write_merged(merged: MergedStacks, folder: Path) -> None:
    """Write ``merged.txt``, ``merged.json`` and ``merged.svg``."""
    (folder / TEXT).write_text(merged.text)
    (folder / "merged.json").write_text(json.dumps(merged.document))
    (folder / "merged.svg").write_text(merged.picture)
