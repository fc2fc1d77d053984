r"""A text seen with its disguises taken off, each character knowing where it came from.

A secret that was broken over lines, written with ``%2B`` or ``\u003d``, or put into a JSON string inside a JSON string
is found in a view, and cut out of the text itself.
"""

from __future__ import annotations

import html
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

Span = tuple[int, int]

_PREFIX: Final = (
    r"(?:\([^()\n]{1,60}\bpid=\d+[^()\n]{0,60}\)|\[rank\d+\]:?|\[\d+\]:?"
    r"|(?:INFO|WARNING|WARN|ERROR|DEBUG)\s+[\d-]+\s[\d:.,]+\s*(?:\[[^\]\n]{1,60}\])?"
    r"|\d{4}-\d\d-\d\d[T ][\d:.,]+Z?(?:\s+(?:INFO|WARNING|WARN|ERROR|DEBUG))?:?|[>|#*]{1,3}(?=\s))"
)
_END: Final = r"(?:\r?\n|\r|\\+r|\\+n|<br\s*/?>)"
BREAK: Final = re.compile(
    rf"(?:\\*[\"'])?[ \t]*[+\\=]?[ \t]*(?:{_END}[ \t]*(?:{_PREFIX}[ \t]*){{0,3}})+[+]?[ \t]*(?:\\*[\"'])?"
    r"|[\"'][ \t]*[+.][ \t]*[\"']"
)
"""Where one line ends and the next begins, with what log writers put around it: no character of a value."""
QUIET: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]+")
PERCENT: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
ESCAPE: Final = re.compile(
    r"(?:\\+u[0-9A-Fa-f]{4})+|(?:\\+x[0-9A-Fa-f]{2})+|\\+(?=[\"'/$&!@#%^*()\[\]{}|;:<>?`~ =+,.-])"
    r"|&(?:#\d{1,6}|#x[0-9A-Fa-f]{1,6}|[a-zA-Z]{2,8});"
)


@dataclass(frozen=True, slots=True)
class View:
    """A reading of a text; character ``i`` stands for ``source[starts[i]:ends[i]]``."""

    text: str
    starts: array[int]
    ends: array[int]

    def span(self, start: int, end: int) -> Span:
        """Return the part of the source that characters ``start`` to ``end`` stand for."""
        return self.starts[start], self.ends[end - 1]

    def replaced(self, pattern: re.Pattern[str], reading: Callable[[str], str]) -> View:
        """Return the view in which each match is read as something else, or as nothing."""
        parts: list[str] = []
        starts, ends = array("Q"), array("Q")
        last = 0
        for found in pattern.finditer(self.text):
            if found.end() == found.start():
                continue
            parts.append(self.text[last : found.start()])
            starts.extend(self.starts[last : found.start()])
            ends.extend(self.ends[last : found.start()])
            read = reading(found[0])
            parts.append(read)
            begin, end = self.span(found.start(), found.end())
            starts.extend([begin] * len(read))
            ends.extend([end] * len(read))
            last = found.end()
        if not last:
            return self
        parts.append(self.text[last:])
        starts.extend(self.starts[last:])
        ends.extend(self.ends[last:])
        return View("".join(parts), starts, ends)


def plain(text: str) -> View:
    """Return the text as it stands."""
    return View(text, array("Q", range(len(text))), array("Q", range(1, len(text) + 1)))


def views(text: str) -> Iterator[View]:
    """Yield the readings in which secrets are looked for: as it stands, unbroken, and decoded once and twice."""
    view = plain(text)
    yield view
    quiet = view.replaced(QUIET, _nothing)
    unbroken = quiet.replaced(BREAK, _nothing)
    if unbroken is not view:
        yield unbroken
    for _ in range(2):
        before = quiet
        quiet = quiet.replaced(PERCENT, _percent).replaced(ESCAPE, _escape)
        if quiet is before:
            return
        yield quiet
        unbroken = quiet.replaced(BREAK, _nothing)
        if unbroken is not quiet:
            yield unbroken


def _nothing(text: str) -> str:
    del text
    return ""


def _percent(text: str) -> str:
    return bytes.fromhex(text.replace("%", "")).decode("utf-8", errors="replace")


def _escape(text: str) -> str:
    if text.startswith("&"):
        return html.unescape(text)
    if "u" in text:
        return "".join(chr(int(code, 16)) for code in re.findall(r"u([0-9A-Fa-f]{4})", text))
    if "x" in text:
        return bytes.fromhex("".join(re.findall(r"x([0-9A-Fa-f]{2})", text))).decode("utf-8", errors="replace")
    return ""
