"""Reading the same stack a million times: the work is done once per distinct text, whatever its addresses.

Every address of every dump is cut out before anything is looked up: one pass of a compiled expression over the whole
text (7 us for 40 frames and 81 addresses; splitting, stripping and joining took 13). Only a body that was not seen
before is read line by line. The memory is bounded by characters, not by entries: when it is full it is emptied, which
costs time and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from harness.stacks.model import Frame

_ADDRESS: Final = re.compile("0x[0-9a-fA-F]+")
_LIMIT: Final = 8 << 20  # characters of remembered text per memo

LineParser = Callable[[str], Frame | None]


def without_addresses(text: str) -> str:
    """Return the text with every ``0x…`` reduced to ``0x``."""
    return _ADDRESS.sub("0x", text)


def blocks(text: str, mark: str) -> Iterator[tuple[str, str, bool]]:
    """Yield header, body and whether it was cut off, for each block that a line starting with ``mark`` opens.

    Tools end every line; a text that does not end with one was cut off, and its last line is dropped.
    """
    torn = bool(text) and text[-1] != "\n"
    if torn:
        text = text[: text.rfind("\n") + 1]
    found = ("\n" + text).split("\n" + mark)
    for index in range(1, len(found)):
        head, _, body = found[index].partition("\n")
        yield head, body, torn and index == len(found) - 1


class Body(NamedTuple):
    """What the lines of one stack hold: frames, outermost first, and whether the tool gave up on the rest."""

    frames: tuple[Frame, ...]
    cut: bool


class FrameMemo:
    """Bodies of stacks to frames.

    Args:
        parse_line: Reads one line without addresses; ``None`` for a line that is no frame.
        innermost_first: How the tool orders its lines.
        values: What else, besides addresses, differs between equal stacks and is no part of any frame.
        cut_marks: Words with which the tool says that a stack goes on where it could not follow.
        limit: Characters of text to remember.
    """

    def __init__(
        self,
        parse_line: LineParser,
        *,
        innermost_first: bool,
        values: re.Pattern[str] | None = None,
        cut_marks: tuple[str, ...] = (),
        limit: int = _LIMIT,
    ) -> None:
        self._parse_line = parse_line
        self._innermost_first = innermost_first
        self._values = values
        self._cut_marks = cut_marks
        self._limit = limit
        self._size = 0
        self._bodies: dict[str, Body] = {}
        self._lines: dict[str, Frame | None] = {}

    def read(self, body: str) -> Body:
        """Return what a body of lines holds; the same object for the same text."""
        key = without_addresses(body)
        if self._values is not None:
            key = self._values.sub("=", key)
        found = self._bodies.get(key)
        return found if found is not None else self._miss(key)

    def _miss(self, key: str) -> Body:
        if self._size + 2 * len(key) > self._limit:
            self._bodies.clear()
            self._lines.clear()
            self._size = 0
        self._size += 2 * len(key)
        frames = [frame for line in key.split("\n") if (frame := self._line(line)) is not None]
        if self._innermost_first:
            frames.reverse()
        self._bodies[key] = result = Body(tuple(frames), any(mark in key for mark in self._cut_marks))
        return result

    def _line(self, line: str) -> Frame | None:
        try:
            return self._lines[line]
        except KeyError:
            frame = self._lines[line] = self._parse_line(line)
            return frame
