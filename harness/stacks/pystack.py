"""``pystack remote --native-all --no-color`` (and ``pystack core``), 1.4 to 1.7: Python and native frames, merged."""

from __future__ import annotations

import re
from typing import Final

from harness.stacks.memo import FrameMemo, blocks
from harness.stacks.model import Frame, Process, ThreadStack
from harness.stacks.symbols import basename, native_name

TOOL: Final = "pystack"

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_HEADER: Final = re.compile(r"(\d+)(?: \((.*)\))? \[(.*)\] \(most recent call last\):\s*$")
_FRAME: Final = re.compile(r"\s*\((Python|C)\) File \"(.*?)\", line (\d+), in (.*?)( \(inlined\))?(?: \(([^()]*)\))?$")


def _line(line: str) -> Frame | None:
    found = _FRAME.match(line)
    if found is None:
        return None
    kind, file, at, function, _, library = found.groups()
    number = int(at) or None
    if kind == "Python":
        # Only native frames end with their library; what stood in parentheses here belongs to the name.
        return Frame(f"{function} ({library})" if library else function, basename(file), number)
    return Frame(native_name(function), basename(library or "" if file == "???" else file), number, native=True)


_memo: Final = FrameMemo(_line, innermost_first=False)


def parse(text: str, process: Process, *, sample: int = 0, partial: bool = False) -> list[ThreadStack]:
    """Return the threads of one process; a torn last line makes the last thread partial."""
    if "\x1b" in text:
        text = _COLOUR.sub("", text)
    stacks = []
    for head, body, torn in blocks(text, "Traceback for thread "):
        header = _HEADER.match(head)
        if header is None:
            continue
        thread, name, status = header.groups()
        stacks.append(
            ThreadStack(
                process,
                _memo.read(body).frames,
                int(thread),
                name or "",
                "terminated" if "terminated" in status else "",
                "Has the GIL" in status,
                "gil" if "Waiting for the GIL" in status else "",
                sample,
                TOOL,
                partial or torn,
            )
        )
    return stacks
