"""``eu-stack -m -p PID`` (elfutils): native frames only, without lines; takes a tenth of gdb's time.

With ``-q`` it does not look for names, which is most of its time where symbols are many: 0.2 s for Ray's raylet, whose
stacks are taken in 0.01 s; and the process is held meanwhile. ``eu-addr2line -a -S -C -p PID`` finds them afterwards:
`Names` says what to ask.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from harness.probes.proc import MappedFile
from harness.stacks.memo import FrameMemo, blocks
from harness.stacks.model import Frame, Process, ThreadStack
from harness.stacks.symbols import UNKNOWN, basename, native_name

TOOL: Final = "eu-stack"

_HEADER: Final = re.compile(r"(\d+):\s*$")
_FRAME: Final = re.compile(r"#\d+\s+0x(?:\s+(?!- )(.*?))?(?: - (/.*|\[.*))?$")
"""Number, address (cut out before), name and module; either may be missing."""
_VDSO: Final = re.compile(r"\[vdso: \d+\]\Z")

_NAMELESS: Final = re.compile(r"^(#\d+\s+)0x([0-9a-f]+)(?= - |$)", re.MULTILINE)
_ANSWER: Final = re.compile(r"^0x([0-9a-f]+)\n([^\n]*)\n[^\n]+\n", re.MULTILINE)
"""An address, its symbol, its line; what was cut off in the middle is no answer."""
_SYMBOL: Final = re.compile(r"(?!\(\)|\?\?)(\S.*?)(?:\+0x[0-9a-f]+)?$")
"""A symbol with an offset; ``()+0x1f`` or ``??`` where there is none."""

_Place = tuple[str, int]


class Names:
    """The names of a tree's native code: each place of a file is asked for once, in whichever process it came up first.

    A place is a file's identity and an offset in it, the same in all processes, wherever each has it.
    """

    def __init__(self) -> None:
        self._known: dict[_Place, str] = {}

    def unknown(self, text: str, mapped: Sequence[MappedFile]) -> tuple[str, ...]:
        """Return what is to be asked about a dump: the addresses of new places, those of callers less one.

        A return address is that of the instruction after the call, which may belong to the next function.
        """
        asked = {place: address for address, place in _places(text, mapped).items() if place not in self._known}
        return tuple(f"{address:#x}" for address in asked.values())

    def learn(self, text: str, mapped: Sequence[MappedFile], answers: str) -> None:
        """Remember what ``eu-addr2line -a -S -C`` gave; a place without a name is not asked for again."""
        places = _places(text, mapped)
        for address, symbol in _ANSWER.findall(answers):
            place, found = places.get(int(address, 16)), _SYMBOL.match(symbol)
            if place is not None:
                self._known[place] = found[1] if found else ""

    def fill(self, text: str, mapped: Sequence[MappedFile]) -> str:
        """Return a dump with the names that are known; an address without one stays as it is."""
        places = _places(text, mapped)

        def name(found: re.Match[str]) -> str:
            place = places.get(_asked(found))
            known = self._known.get(place, "") if place is not None else ""
            return f"{found[0]} {known}" if known else found[0]

        return _NAMELESS.sub(name, text)


def _asked(found: re.Match[str]) -> int:
    return int(found[2], 16) - (not found[1].startswith("#0 "))


def _places(text: str, mapped: Sequence[MappedFile]) -> dict[int, _Place]:
    """Return the addresses that are asked for, with the places of those that lie in a file."""
    places = {}
    for address in {_asked(found) for found in _NAMELESS.finditer(text)}:
        index = bisect_right(mapped, address, key=lambda file: file.start) - 1
        if index >= 0 and address < mapped[index].stop:
            places[address] = (mapped[index].identity, address - mapped[index].start + mapped[index].offset)
    return places


def _line(line: str) -> Frame | None:
    found = _FRAME.match(line)
    if found is None:
        return None
    name, module = found.groups()
    file = basename(_VDSO.sub("[vdso]", module or ""))
    return Frame(native_name(name) if name else UNKNOWN, file, None, native=True)


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
