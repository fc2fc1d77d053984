"""Sets of many small numbers, and how they are shown: ``0-2,5-7``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

_BITS: Final = 1024
_FULL: Final = (1 << _BITS) - 1


class Members:
    """A set of natural numbers in chunks of bits: a million of them take 0.2 MB, ten strays a few hundred bytes."""

    __slots__ = ("_chunks",)

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._chunks: dict[int, int] = {}
        for number in numbers:
            self.add(number)

    def add(self, number: int) -> None:
        """Add one number."""
        chunk = number // _BITS
        self._chunks[chunk] = self._chunks.get(chunk, 0) | 1 << number % _BITS

    def add_range(self, start: int, stop: int) -> None:
        """Add ``start`` to ``stop - 1``, by whole chunks."""
        while start < stop:
            chunk, first = divmod(start, _BITS)
            last = min(stop - chunk * _BITS, _BITS)
            self._chunks[chunk] = self._chunks.get(chunk, 0) | (1 << last) - (1 << first)
            start = (chunk + 1) * _BITS

    def update(self, other: Members) -> None:
        """Add all of another set."""
        mine = self._chunks
        for chunk, bits in other._chunks.items():
            mine[chunk] = mine.get(chunk, 0) | bits

    def __or__(self, other: Members) -> Members:
        result = Members()
        result.update(self)
        result.update(other)
        return result

    def __and__(self, other: Members) -> Members:
        result = Members()
        for chunk, bits in self._chunks.items():
            if both := bits & other._chunks.get(chunk, 0):
                result._chunks[chunk] = both
        return result

    def __sub__(self, other: Members) -> Members:
        result = Members()
        for chunk, bits in self._chunks.items():
            if rest := bits & ~other._chunks.get(chunk, 0):
                result._chunks[chunk] = rest
        return result

    def __len__(self) -> int:
        return sum(bits.bit_count() for bits in self._chunks.values())

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def __eq__(self, other: object) -> bool:
        return self._chunks == other._chunks if isinstance(other, Members) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # a set that grows

    def __contains__(self, number: int) -> bool:
        return bool(self._chunks.get(number // _BITS, 0) >> number % _BITS & 1)

    def __iter__(self) -> Iterator[int]:
        for start, stop in self.runs():
            yield from range(start, stop)

    def runs(self) -> Iterator[tuple[int, int]]:
        """Yield the longest runs ``(start, stop)`` in order; a full chunk costs one step."""
        begin = end = -1
        for chunk in sorted(self._chunks):
            for start, stop in _runs(self._chunks[chunk], chunk * _BITS):
                if start != end:
                    if end > begin:
                        yield begin, end
                    begin = start
                end = stop
        if end > begin:
            yield begin, end


def _runs(bits: int, base: int) -> Iterator[tuple[int, int]]:
    if bits == _FULL:
        yield base, base + _BITS
        return
    while bits:
        low = (bits & -bits).bit_length() - 1
        length = ((bits >> low) + 1 & -((bits >> low) + 1)).bit_length() - 1
        yield base + low, base + low + length
        bits &= -1 << low + length


def folded(numbers: Iterable[tuple[int, int]], most: int | None = None) -> str:
    """Show runs ``(start, stop)`` as ``0-2,5``; of more than ``most`` runs the rest as ``…``."""
    shown: list[str] = []
    for start, stop in numbers:
        if most is not None and len(shown) == most:
            shown.append("…")
            break
        shown.append(str(start) if stop - start == 1 else f"{start}-{stop - 1}")
    return ",".join(shown)
