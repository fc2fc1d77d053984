"""``eu-stack -m -p PID`` (elfutils): native frames only, without lines; takes a tenth of gdb's time.

With ``-q`` it does not look for names, which is most of its time where symbols are many: 0.2 s for Ray's raylet, whose
stacks are taken in 0.01 s; and the process is held meanwhile. ``eu-addr2line -a -S -p PID`` finds them afterwards, once
for each address. `addresses` and `named` stand between the two.
"""

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

_NAMELESS: Final = re.compile(r"^(#\d+\s+)0x([0-9a-f]+)(?= - |$)", re.MULTILINE)
_ANSWER: Final = re.compile(r"^0x([0-9a-f]+)\n([^\s()?][^\n]*?)(?:\+0x[0-9a-f]+)?$", re.MULTILINE)
"""An address and the line after it: a symbol with an offset; ``()+0x1f`` or ``??`` where there is none."""


def addresses(text: str) -> tuple[str, ...]:
    """Return what is to be asked about a dump without names: each address once, those of callers less one.

    A return address is that of the instruction after the call, which may belong to the next function.
    """
    return tuple(dict.fromkeys(_asked(found) for found in _NAMELESS.finditer(text)))


def named(text: str, answers: str) -> str:
    """Return a dump with the names that ``eu-addr2line -a -S`` gave; an address without one stays as it is."""
    names = {int(address, 16): name for address, name in _ANSWER.findall(answers)}

    def fill(found: re.Match[str]) -> str:
        name = names.get(int(_asked(found), 16), "")
        return f"{found[0]} {name}" if name else found[0]

    return _NAMELESS.sub(fill, text)


def _asked(found: re.Match[str]) -> str:
    return f"{int(found[2], 16) - (not found[1].startswith('#0 ')):#x}"


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
