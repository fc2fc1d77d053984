"""One tree out of the stacks that a capture took: text, JSON and a picture beside the single dumps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from harness.events import ProcessKey, StacksCaptured
from harness.stacks import dumps, render
from harness.stacks.as_json import as_json
from harness.stacks.merge import merge
from harness.stacks.model import Frame, Process, ThreadStack
from harness.stacks.suspect import Findings, suspects
from harness.stacks.svg import svg

TEXT: Final = "merged.txt"
MOST_FRAMES: Final = 300
"""So many functions of one process are recorded; a thread of vLLM has about thirty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedStacks:
    """What the merge says: the text of at most 200 lines, the same as JSON, a picture, and who stands out."""

    text: str
    document: Mapping[str, Any]
    picture: str
    findings: Findings
    frames: Mapping[ProcessKey, tuple[str, ...]]
    """Of each process the functions that its threads were in, as `harness.events.FramesSeen` has them."""


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
            stacks += _from_proc(folder / captured.path, Process.of(captured.key, names.get(captured.key, "")))
    if not stacks:
        return None
    merged = merge(stacks)
    findings = suspects(merged)
    return MergedStacks(
        text=render.text(merged, findings),
        document=as_json(merged, findings),
        picture=svg(merged, findings),
        findings=findings,
        frames=_frames(stacks),
    )


def write_merged(merged: MergedStacks, folder: Path) -> None:
    """Write ``merged.txt``, ``merged.json`` and ``merged.svg``."""
    (folder / TEXT).write_text(merged.text)
    (folder / "merged.json").write_text(json.dumps(merged.document))
    (folder / "merged.svg").write_text(merged.picture)


def _frames(stacks: Sequence[ThreadStack]) -> dict[ProcessKey, tuple[str, ...]]:
    """Return the distinct functions of each process, innermost first; the main thread is the one with the pid."""
    seen: dict[ProcessKey, dict[str, None]] = {}
    for stack in sorted(stacks, key=lambda stack: stack.thread_id != stack.process.key.pid):
        names = seen.setdefault(stack.process.key, {})
        for frame in reversed(stack.frames):
            names[f"{frame.name} ({frame.file})" if frame.file else frame.name] = None
    return {key: tuple(islice(names, MOST_FRAMES)) for key, names in seen.items()}


def _from_proc(path: Path, process: Process) -> list[ThreadStack]:
    """Return one frame a thread: the call that it is blocked in, with the kernel's wait channel as its place."""
    return [
        ThreadStack(
            process,
            (Frame(f"[kernel] {wait['call']}", wait["wchan"] if wait["wchan"] != "0" else "", native=True),),
            thread_id=wait["tid"],
            thread_name=wait["name"],
            state=wait["kind"],
            tool="proc",
        )
        for wait in json.loads(path.read_text())
    ]
