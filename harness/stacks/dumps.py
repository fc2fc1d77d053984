"""One door for the text of any tool, and for a stream of many dumps one after another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

import msgspec

from harness.stacks import eu_stack, gdb, joined, py_spy, pystack
from harness.stacks.model import Process, ThreadStack

_MARK: Final = b"\x1e=== crashcart-dump "  # the record separator keeps it apart from what any tool prints


_JSON: Final = re.compile(r"\s*\[\s*(\{|\]|\Z)")  # gdb, too, opens with a bracket: its notices


class Tool(StrEnum):
    """Whose output a dump is."""

    PY_SPY_JSON = "py-spy-json"
    JOINED = "py-spy + eu-stack"
    PY_SPY = "py-spy"
    PYSTACK = "pystack"
    GDB = "gdb"
    EU_STACK = "eu-stack"


_PARSERS: Final = {
    Tool.PY_SPY_JSON: py_spy.parse_json,
    Tool.JOINED: joined.parse,
    Tool.PY_SPY: py_spy.parse_text,
    Tool.PYSTACK: pystack.parse,
    Tool.GDB: gdb.parse,
    Tool.EU_STACK: eu_stack.parse,
}


class _Head(msgspec.Struct, frozen=True):
    process: Process
    sample: int = 0
    partial: bool = False
    tool: Tool | None = None


_head: Final = msgspec.json.Decoder(_Head)


def sniff(text: str) -> Tool | None:
    """Return whose output a text is; ``None`` if it holds no stack of a known tool (an error message, or nothing)."""
    start = text[:65536]
    if _JSON.match(start):
        return Tool.JOINED if joined.is_joined(text) else Tool.PY_SPY_JSON
    if "Traceback for thread " in start:
        return Tool.PYSTACK
    if start.startswith(("PID ", "TID ")) and "\nTID " in f"\n{start}":
        return Tool.EU_STACK
    if "\n#0 " in text and "Thread " in text:
        return Tool.GDB
    if start.startswith(("Process ", "Thread ")) or "\nThread " in start:
        return Tool.PY_SPY
    return None


def parse(
    text: str, process: Process, *, tool: Tool | None = None, sample: int = 0, partial: bool = False
) -> list[ThreadStack]:
    """Return the stacks of one process from one dump.

    ``partial`` says that the capture was cut short; a text that ends in the middle is found out. A text without
    stacks gives an empty list. Never raises on any text.
    """
    chosen = tool or sniff(text)
    return _PARSERS[chosen](text, process, sample=sample, partial=partial) if chosen is not None else []


def write_dump(
    process: Process, text: str, *, tool: Tool | None = None, sample: int = 0, partial: bool = False
) -> bytes:
    """Return a dump as it stands in a stream: a line that says whose it is, then the text as the tool wrote it."""
    return _MARK + msgspec.json.encode(_Head(process, sample, partial, tool)) + b"\n" + text.encode()


def read_dumps(stream: Iterable[bytes]) -> Iterator[list[ThreadStack]]:
    """Yield the stacks of each dump of a stream of lines or of larger pieces; holds one dump at a time.

    A dump whose first line cannot be read is left out, as is what stands before the first of them.
    """
    text = b""
    for piece in stream:
        text += piece
        if _MARK in text[-len(piece) - len(_MARK) :]:
            *whole, text = text.split(_MARK)
            text = _MARK + text
        else:
            whole = []
        for dump in whole:
            yield from _dump(dump)
    yield from _dump(text.removeprefix(_MARK))


def _dump(raw: bytes) -> Iterator[list[ThreadStack]]:
    line, _, text = raw.partition(b"\n")
    try:
        head = _head.decode(line)
    except msgspec.DecodeError:
        return
    yield parse(text.decode(errors="replace"), head.process, tool=head.tool, sample=head.sample, partial=head.partial)
