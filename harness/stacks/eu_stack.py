"""``eu-stack -m -p PID`` (elfutils): native frames only, without lines; takes a tenth of gdb's time."""

from __future__ import annotations

import re
from typing import Final

from harness.stacks.memo import FrameMemo, blocks
from harness.stacks.model import Frame, Process, ThreadStack
from harness.stacks.symbols import UNKNOWN, basename, native_name

TOOL: Final = "eu-stack"

_HEADER: Final = re.compile(r"(\d+):\s*$")
_FRAME: Final = re.compile(r"#\d+\s+0x(?:\s+(?!- )(.*?))?(?: - (/.*|\[.*))?$")
"""Number, address (cut out before), name and module; either may be missing."""


def _line(line: str) -> Frame | None:
    found = _FRAME.match(line)
    if found is None:
        return None
    name, module = found.groups()
    return Frame(native_name(name) if name else UNKNOWN, basename(module or ""), None, native=True)


_memo: Final = FrameMemo(_line, innermost_first=True)


def parse(text: str, process: Process, *, sample: int = 0, partial: bool = False) -> list[ThreadStack]:
    """Return the threads of one process; a torn last line makes the last thread partial."""
    stacks = []
    for head, rest, torn in blocks(text, "TID "):
        header = _HEADER.match(head)
        if header is None:
            continue
        frames, _ = _memo.read(rest)
        stacks.append(
            ThreadStack(process, frames, int(header[1]), "", "", None, "", sample, TOOL, partial or torn or not frames)
        )
    return stacks
