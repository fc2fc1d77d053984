"""What lies beside the events of an attempt: ends of its output, and its stacks. Every excerpt names file and lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

OUTPUTS: Final = ("stderr", "stdout")
MERGED: Final = "stacks/merged.json"
"""The prefix tree over all processes (`harness.stacks.as_json`, schema 1); shown if it is there."""
ERROR: Final = re.compile(r"Traceback \(most recent|\b\w*(Error|Exception)\b|\bFATAL\b|Segmentation fault|core dumped")
ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
READ_AT_MOST: Final = 8 << 20
"""Bytes read of one output file, from its end: some programs write gigabytes."""
LINE_CHARS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """Lines `first` to `last` of a text file, from 1; 0 where it was too big to be counted from its beginning."""

    path: str
    why: str
    first: int
    last: int
    text: str

    @property
    def source(self) -> str:
        """File and lines, as people write them."""
        return f"{self.path}:{self.first}-{self.last}" if self.first else self.path


class _PySpyFrame(msgspec.Struct, frozen=True):
    name: str
    filename: str = ""
    short_filename: str | None = None
    line: int = 0


class _Thread(msgspec.Struct, frozen=True):
    """A thread as ``py-spy dump --json`` has it; fields that are not shown are passed over."""

    os_thread_id: int | None = None
    thread_name: str | None = None
    active: bool = False
    frames: tuple[_PySpyFrame, ...] = ()


class _Frame(msgspec.Struct, frozen=True):
    """A node as the file has it; fields that are not shown are passed over."""

    id: int
    parent: int | None
    function: str
    file: str = ""
    present: dict[str, str] = {}
    missing: dict[str, str] = {}
    count: int = 0


class Suspect(msgspec.Struct, frozen=True):
    """Who stands out among the processes, and why."""

    who: str
    reasons: tuple[str, ...] = ()


class _Document(msgspec.Struct, frozen=True):
    processes: int
    nodes: tuple[_Frame, ...]
    suspects: tuple[Suspect, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StackNode:
    """A frame of merged stacks: who has it, who of the same role is missing, and what they called next."""

    frame: str
    present: str
    missing: str
    count: int
    children: list[StackNode]


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedStacks:
    """The stacks of all processes of an attempt as one tree."""

    root: StackNode
    suspects: tuple[Suspect, ...]
    remarks: tuple[str, ...]


def outputs(directory: Path, evidence: str, limit: int) -> list[Excerpt]:
    """Return the lines around the first error and the last lines of stderr and stdout, `limit` bytes of each file."""
    found: list[Excerpt] = []
    for name in OUTPUTS:
        found += excerpts(directory, f"{evidence}/{name}", limit)
    return found


def excerpts(directory: Path, path: str, limit: int) -> Iterator[Excerpt]:
    """Yield the first error with what follows it, where it is not among the last lines, and the last lines."""
    read = _lines(directory / path)
    if read is None:
        return
    lines, counted = read
    tail = _fitting(lines, limit)
    start = len(lines) - tail
    around = next((number for number, line in enumerate(lines[:start]) if ERROR.search(line)), None)
    if around is not None:
        limit //= 2
        tail = _fitting(lines, limit)
        start = len(lines) - tail
        shown = lines[max(0, around - 2) : min(start, around + 40)]
        shown = shown[: max(1, _fitting(shown[::-1], limit))]
        first = max(0, around - 2) + 1
        why = "around the first error"
        yield _excerpt(path, why, first if counted else 0, shown)
    if tail:
        yield _excerpt(path, "the end", start + 1 if counted else 0, lines[start:])


def read_text(directory: Path, path: str, limit: int) -> Excerpt | None:
    """Return the beginning of a small text file, such as the stacks of one process; ``None`` if it is gone."""
    read = _lines(directory / path)
    if read is None:
        return None
    lines, _ = read
    if path.endswith(".pyspy.json"):
        lines = _threads(lines)
    shown = lines[: _fitting(lines[::-1], limit)]
    why = "whole" if len(shown) == len(lines) else f"the first {len(shown)} of {len(lines)} lines"
    return _excerpt(path, why, 1, shown)


def merged_stacks(directory: Path, evidence: str) -> MergedStacks | None:
    """Return the merged stacks of an attempt, if somebody merged them; parents stand before their children."""
    try:
        document = msgspec.json.decode((directory / evidence / MERGED).read_bytes(), type=_Document)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    root = StackNode(frame="all", present="", missing="", count=document.processes, children=[])
    by_id: dict[int | None, StackNode] = {None: root}
    for node in document.nodes:
        place = f" ({node.file.rpartition('/')[2]})" if node.file else ""
        shown = StackNode(
            frame=f"{node.function}{place}",
            present=_who(node.present),
            missing=_who(node.missing),
            count=node.count,
            children=[],
        )
        by_id[node.id] = shown
        by_id.get(node.parent, root).children.append(shown)
    return MergedStacks(root=root, suspects=document.suspects, remarks=document.remarks)


def _who(members: dict[str, str]) -> str:
    return ", ".join(f"{role} {ranges}" for role, ranges in members.items())


def text_of(value: Any) -> str:  # noqa: ANN401 - values of decoded JSON
    """Return a value of the record as one line of text."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - decoded JSON
    """Yield the leaves of nested facts with dotted names; lists of plain values stay together."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and all(not isinstance(inner, dict | list) for inner in value):
        yield name, ", ".join(map(str, value))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from flat(inner, f"{name}[{number}]")
    else:
        yield name, str(value)


def _threads(lines: list[str]) -> list[str]:
    """Return py-spy's JSON as people read stacks, or as it is if it is not what it should be."""
    try:
        threads = msgspec.json.decode("\n".join(lines), type=tuple[_Thread, ...])
    except msgspec.DecodeError:
        return lines
    shown = []
    for thread in threads:
        shown.append(f'Thread {thread.os_thread_id} ({"active" if thread.active else "idle"}): "{thread.thread_name}"')
        shown += [
            f"    {frame.name} ({frame.short_filename or frame.filename}:{frame.line})" for frame in thread.frames
        ]
    return shown


def _lines(path: Path) -> tuple[list[str], bool] | None:
    """Return the lines of a file, without terminal colours, and whether they start at its first line."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - READ_AT_MOST))
            data = file.read(READ_AT_MOST)
    except OSError:
        return None
    text = ANSI.sub("", data.decode(errors="replace"))
    lines = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines, size <= READ_AT_MOST


def _fitting(lines: list[str], limit: int) -> int:
    """Return how many of the last lines fit into a number of bytes."""
    left = limit
    for count, line in enumerate(reversed(lines)):
        left -= len(line[:LINE_CHARS].encode()) + 1
        if left < 0:
            return count
    return len(lines)


def _excerpt(path: str, why: str, first: int, lines: list[str]) -> Excerpt:
    text = "\n".join(line if len(line) <= LINE_CHARS else line[:LINE_CHARS] + " …" for line in lines)
    printable = "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
    return Excerpt(path=path, why=why, first=first, last=first + len(lines) - 1 if first else 0, text=printable)
