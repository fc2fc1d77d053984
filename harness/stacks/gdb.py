"""``gdb -batch -p PID -ex 'thread apply all bt'`` (cuda-gdb and rocgdb print the same): native frames only."""

from __future__ import annotations

import re
from typing import Final

from harness.stacks.memo import FrameMemo, blocks
from harness.stacks.model import Frame, Process, ThreadStack
from harness.stacks.symbols import UNKNOWN, basename, native_name

TOOL: Final = "gdb"

_HEADER: Final = re.compile(r"\d+ \((?:Thread 0x[0-9a-f]+ \()?(?:LWP|process) (\d+)\)?(?: \"(.*?)\")?.*\):?\s*$")
_NUMBER: Final = re.compile(r"#\d+\s+(?:0x in )?")
_PLACE: Final = re.compile(r" (?:at (.+?):(\d+)|from (.+))$")
_VALUE: Final = re.compile("=-?[0-9]+")  # arguments: descriptors, sizes, ranks
_CUT: Final = ("Backtrace stopped:", "(More stack frames follow", "Cannot access memory")


def _line(line: str) -> Frame | None:
    number = _NUMBER.match(line)
    if number is None:
        return None
    rest = line[number.end() :].rstrip()
    place = _PLACE.search(rest)
    file, at = "", None
    if place is not None:
        rest = rest[: place.start()]
        file = basename(place[1] or place[3])
        at = int(place[2]) if place[2] else None
    return Frame(_name(rest), file, at, native=True)


def _name(call: str) -> str:
    """Cut the arguments off: the parenthesis that closes at the end, found from behind."""
    if not call.endswith(")"):
        return native_name(call)
    depth = 0
    for index in range(len(call) - 1, -1, -1):
        depth += (call[index] == ")") - (call[index] == "(")
        if depth == 0:
            return native_name(call[:index]) if index else UNKNOWN
    return native_name(call.partition(" (")[0])


_memo: Final = FrameMemo(_line, innermost_first=True, values=_VALUE, cut_marks=_CUT)


def parse(text: str, process: Process, *, sample: int = 0, partial: bool = False) -> list[ThreadStack]:
    """Return the threads of one process; a torn last line makes the last thread partial."""
    stacks = []
    for head, rest, torn in blocks(text, "Thread "):
        header = _HEADER.match(head)
        if header is None:
            continue
        frames, cut = _memo.read(rest.partition("\n[Inferior ")[0])
        thread, name = header.groups()
        stacks.append(
            ThreadStack(process, frames, int(thread), name or "", "", None, "", sample, TOOL, partial or torn or cut)
        )
    return stacks
