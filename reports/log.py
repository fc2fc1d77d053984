"""The event log of a run by line: every fact keeps the number of the line that it comes from.

One quick pass finds out which lines belong to which attempt; the lines of an attempt are decoded when they are asked
for. So a log of a million events costs some bytes per line, not some objects.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from harness import events
from harness.events import Event
from harness.record import EVENTS

AttemptKey = tuple[str, int]
"""Cell id and number of the attempt; the cell is empty for facts of the whole run."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event and the number of its line in ``events.jsonl``, from 1."""

    line: int
    event: Event


class _Owner(msgspec.Struct):
    cell: str = ""
    attempt: int = 0


@dataclass(slots=True)
class _Lines:
    """Numbers and offsets, in bytes, of the lines of one attempt."""

    numbers: array[int] = field(default_factory=lambda: array("L"))
    offsets: array[int] = field(default_factory=lambda: array("Q"))


_owner: Final = msgspec.json.Decoder(_Owner)


class Log:
    """An index of ``events.jsonl``; lines that cannot be read are counted and passed over.

    A missing file is an empty log: a run that was cut off early is still reported.
    """

    def __init__(self, directory: Path) -> None:
        self.path: Final = directory / EVENTS
        self.lines = 0
        self.unreadable = 0
        self.ended: events.RunEnded | None = None
        """The run's own end, if the record has one."""
        self._index: dict[AttemptKey, _Lines] = {}
        self._attempts: dict[str, tuple[int, ...]] = {}
        try:
            with self.path.open("rb") as log:
                self._read_index(log)
        except OSError:
            return
        for cell, number in self._index:
            if cell:
                self._attempts[cell] = tuple(sorted((*self.attempts_of(cell), number)))
        ends = [one.event for one in self.iterate("", 0) if isinstance(one.event, events.RunEnded)]
        self.ended = ends[-1] if ends else None

    def attempts_of(self, cell: str) -> tuple[int, ...]:
        """Return the numbers of the recorded attempts of a cell, in their order."""
        return self._attempts.get(cell, ())

    @property
    def cells(self) -> tuple[str, ...]:
        """Ids of the cells with a recorded attempt, by their first line."""
        return tuple(self._attempts)

    def read(self, cell: str, attempt: int) -> list[Recorded]:
        """Return what was recorded of an attempt in the order of the lines; empty if there is nothing."""
        return list(self.iterate(cell, attempt))

    def iterate(self, cell: str, attempt: int) -> Iterator[Recorded]:
        """Yield what was recorded of an attempt, decoding one line after another."""
        lines = self._index.get((cell, attempt))
        if lines is None:
            return
        with self.path.open("rb") as log:
            for number, offset in zip(lines.numbers, lines.offsets, strict=True):
                if log.tell() != offset:
                    log.seek(offset)
                try:
                    event = events.decode(log.readline())
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                if event is not None:
                    yield Recorded(number, event)

    def _read_index(self, log: Iterator[bytes]) -> None:
        offset = 0
        last: AttemptKey | None = None
        lines = _Lines()
        for number, line in enumerate(log, 1):
            try:
                owner = _owner.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.unreadable += 1
            else:
                key = (owner.cell, owner.attempt)
                if key != last:
                    lines, last = self._index.setdefault(key, _Lines()), key
                lines.numbers.append(number)
                lines.offsets.append(offset)
            offset += len(line)
            self.lines = number
