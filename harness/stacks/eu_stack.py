"""``eu-stack -m -p PID`` (elfutils): native frames only, without lines; takes a tenth of gdb's time.

With ``-q`` it does not look for names, which is most of its time where symbols are many: 0.2 s for Ray's raylet, whose
stacks are taken in 0.01 s; and the process is held meanwhile. ``eu-addr2line -a -S -C -p PID`` finds them afterwards:
`Names` says what to ask.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from harness.probes.proc import MappedFile
from harness.stacks.memo import FrameMemo, blocks
from harness.stacks.model import Frame, Process, ThreadStack
from harness.stacks.symbols import UNKNOWN, basename, native_name

TOOL: Final = "eu-stack"

_HEADER: Final = re.compile(r"(\d+):\s*$")
_FRAME: Final = re.compile(r"#\d+\s+0x(?:\s+(?!- )(.*?))?(?: - (/.*|\[.*))?$")
"""Number, address (cut out before), name and module; either may be missing."""

_NAMELESS: Final = re.compile(r"^(#\d+\s+)0x([0-9a-f]+)( - (/.*))$", re.MULTILINE)
_ASKED: Final = re.compile(r"^0x([0-9a-f]+)$", re.MULTILINE)
_ANSWER: Final = re.compile(r"^0x([0-9a-f]+)\n(?!\(\)|\?\?)(\S[^\n]*?)(?:\+0x[0-9a-f]+)?$", re.MULTILINE)
"""An address and the line after it: a symbol with an offset; ``()+0x1f`` or ``??`` where there is none."""


class Names:
    """The names of a tree's native code: each place of a file is asked for once, in whichever process it came up first.

    A place is a file's identity and the distance from where the process has mapped its beginning: the same in all
    processes, wherever each has it.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], str] = {}

    def unknown(self, text: str, mapped: Mapping[str, MappedFile]) -> tuple[str, ...]:
        """Return what is to be asked about a dump: the addresses of new places, those of callers less one.

        A return address is that of the instruction after the call, which may belong to the next function.
        """
        asked = {place: address for address, place in _places(text, mapped) if place not in self._known}
        return tuple(f"{address:#x}" for address in asked.values())

    def learn(self, text: str, mapped: Mapping[str, MappedFile], answers: str) -> None:
        """Remember what ``eu-addr2line -a -S -C`` gave; a place without a name is not asked for again."""
        names = {int(address, 16): name for address, name in _ANSWER.findall(answers)}
        asked = {int(address, 16) for address in _ASKED.findall(answers)}
        for address, place in _places(text, mapped):
            if address in asked:
                self._known[place] = names.get(address, "")

    def fill(self, text: str, mapped: Mapping[str, MappedFile]) -> str:
        """Return a dump with the names that are known; an address without one stays as it is."""

        def name(found: re.Match[str]) -> str:
            place = _place(found, mapped)
            known = self._known.get(place[1], "") if place is not None else ""
            return f"{found[1]}0x{found[2]} {known}{found[3]}" if known else found[0]

        return _NAMELESS.sub(name, text)


def _places(text: str, mapped: Mapping[str, MappedFile]) -> Iterator[tuple[int, tuple[str, int]]]:
    return (place for found in _NAMELESS.finditer(text) if (place := _place(found, mapped)) is not None)


def _place(found: re.Match[str], mapped: Mapping[str, MappedFile]) -> tuple[int, tuple[str, int]] | None:
    """Return the address that is asked for, and its place; ``None`` for code that belongs to no file."""
    file = mapped.get(found[4])
    if file is None:
        return None
    address = int(found[2], 16) - (not found[1].startswith("#0 "))
    return address, (file.identity, address - file.start)


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
