"""``py-spy dump``: JSON and text, with and without ``--native``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from harness.stacks.memo import FrameMemo, blocks
from harness.stacks.model import Frame, Process, ThreadStack
from harness.stacks.symbols import basename, native_name

TOOL: Final = "py-spy"

_HEADER: Final = re.compile(r"(0x[0-9A-Fa-f]+|\d+) \(([^)]*)\)(?:: \"(.*)\")?\s*$")
_FRAME: Final = re.compile(r" {4}(\S.*) \(([^()]*?)(?::(\d+))?\)\s*$")
_PYTHON: Final = (".py", ".pyc", ">")


class _Frame(msgspec.Struct):
    name: str
    filename: str = ""
    module: str | None = None
    short_filename: str | None = None
    line: int = 0
    is_entry: bool = False
    is_shim_entry: bool = False


class _Thread(msgspec.Struct):
    frames: list[_Frame]
    thread_name: str | None = None
    os_thread_id: int | None = None
    active: bool = False
    owns_gil: bool = False


_decoder: Final = msgspec.json.Decoder(list[_Thread])


def _frame(name: str, file: str, line: int | None, *, native: bool) -> Frame:
    return Frame(native_name(name) if native else name, basename(file), line or None, native)


def _line(line: str) -> Frame | None:
    found = _FRAME.match(line)
    if found is None:
        return None
    name, file, at = found.groups()
    return _frame(name, file, int(at) if at else None, native=not file.endswith(_PYTHON))


_memo: Final = FrameMemo(_line, innermost_first=True)


def parse_text(text: str, process: Process, *, sample: int = 0, partial: bool = False) -> list[ThreadStack]:
    """Return the threads of one process from the text form; a torn last line makes the last thread partial."""
    stacks = []
    for head, body, torn in blocks(text, "Thread "):
        header = _HEADER.match(head)
        if header is None:
            continue
        thread, state, name = header.groups()
        stacks.append(
            ThreadStack(
                process,
                _memo.read(body.partition("\nProcess ")[0]).frames,
                int(thread) if thread.isdecimal() else 0,
                name or "",
                state.partition("+")[0],
                "gil" in state,
                sample=sample,
                tool=TOOL,
                partial=partial or torn,
            )
        )
    return stacks


def parse_json(text: str, process: Process, *, sample: int = 0, partial: bool = False) -> list[ThreadStack]:
    """Return the threads of one process from ``--json``; of a torn document those that came whole, marked partial."""
    return [stack for stack, _ in parse_runs(text, process, sample=sample, partial=partial, python=False)]


def parse_runs(
    text: str, process: Process, *, sample: int = 0, partial: bool = False, python: bool = True
) -> list[tuple[ThreadStack, list[tuple[Frame, ...]]]]:
    """Return the threads, each with its frames cut into runs (`harness.stacks.joined`), outermost first like these.

    ``python`` says that the dump was taken without ``--native``, so that a file without a suffix is a script.
    """
    try:
        threads = _decoder.decode(text)
    except msgspec.DecodeError:
        threads, partial = list(_whole(text)), True
    found = []
    for thread in threads:
        runs = _runs(thread, python=python)
        stack = ThreadStack(
            process,
            tuple(frame for run in runs for frame in run),
            thread.os_thread_id or 0,
            thread.thread_name or "",
            "active" if thread.active else "idle",
            thread.owns_gil,
            sample=sample,
            tool=TOOL,
            partial=partial,
        )
        found.append((stack, runs))
    return found


def _runs(thread: _Thread, *, python: bool) -> list[tuple[Frame, ...]]:
    runs: list[list[Frame]] = []
    starts = True
    for frame in reversed(thread.frames):
        # Without debug information py-spy calls a native frame by its address, and names its library as its file.
        found = _frame(
            frame.name,
            frame.filename if frame.module or not frame.short_filename else frame.short_filename,
            frame.line,
            native=frame.module is not None or not (python or frame.filename.endswith(_PYTHON)),
        )
        if starts or frame.is_entry or frame.is_shim_entry:
            runs.append([])
        starts = False
        runs[-1].append(found)
    return [tuple(run) for run in runs]


def _whole(text: str) -> Iterator[_Thread]:
    """Yield the threads of a cut-off document that are complete."""
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            value: Any
            value, end = decoder.raw_decode(text, at)
            yield msgspec.convert(value, _Thread)
        except (ValueError, msgspec.ValidationError):
            return
        at = text.find("{", end)
