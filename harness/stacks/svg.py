"""A merged tree as a picture: an icicle (a flame graph from the top down) that stands on its own or inside a page.

The width of a frame is the share of processes that have a thread in it; where threads branch, their widths are scaled
to fit. Frames with the same members have the same colour. No script, nothing from elsewhere; frames can be reached
with the keyboard and say who is there and who is missing.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from html import escape
from typing import Final, NamedTuple
from zlib import crc32

from harness.stacks.members import Members
from harness.stacks.merged import ROOT, Merged
from harness.stacks.suspect import Findings

_ROW: Final = 18
_LETTER: Final = 6.6  # width in pixels of a letter of the 11 px monospaced font
_NARROWEST: Final = 1.0
_MOST: Final = 4000

_STYLE: Final = (
    ".cc-stacks{font:11px ui-monospace,monospace}.cc-stacks text{pointer-events:none;fill:#111}"
    ".cc-stacks rect{stroke:#fff;stroke-width:.6}.cc-stacks .cc-suspect rect{stroke:#b00020;stroke-width:2}"
    ".cc-stacks g:hover rect{opacity:.75}.cc-stacks g:focus{outline:none}"
    ".cc-stacks g:focus rect{stroke:#000;stroke-width:2.5}"
)


class _Bar(NamedTuple):
    """Where a node is drawn: pixels from the left and wide, rows from the top."""

    node: int
    level: int
    x: float
    width: float


def svg(merged: Merged, findings: Findings | None = None, *, width: int = 1200) -> str:
    """Return one ``<svg>`` element; ``width`` in pixels, the height follows from the deepest stack."""
    suspects = Members()
    for one in findings.suspects if findings else ():
        suspects.update(one.members)
    shapes: list[str] = []
    depth = left_out = 0
    for bar in _layout(merged, width):
        if bar.width < _NARROWEST or len(shapes) >= _MOST:
            left_out += 1
            continue
        depth = max(depth, bar.level)
        shapes.append(_shape(merged, bar, suspects))
    height = (depth + 2) * _ROW
    summary = f"Stacks of {len(merged.directory)} processes in {len(merged.classes)} classes"
    note = f"{summary}; {left_out} frames too narrow to draw" if left_out else summary
    named = "; ".join(f"suspect {one.who}: {one.reasons[0]}" for one in (findings.suspects if findings else ())[:5])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="cc-stacks" viewBox="0 0 {width} {height}" width="100%" '
        f'role="group" aria-label="{_safe(summary)}"><title>{_safe(note)}</title><desc>{_safe(named)}</desc>'
        f"<style>{_STYLE}</style>"
        f'<rect x="0" y="0" width="{width}" height="{_ROW}" fill="#ddd"/>'
        f'<text x="4" y="13">{_safe(note)}</text>{"".join(shapes)}</svg>'
    )


def _layout(merged: Merged, width: float) -> Iterator[_Bar]:
    """Yield the bars, parents first; nothing below what is too narrow."""
    waiting = [_Bar(ROOT, 0, 0.0, width)]
    while waiting:
        bar = waiting.pop()
        node, level, x, wide = bar
        if node != ROOT:
            yield bar
        if wide < _NARROWEST:
            continue
        children = merged.children(node)
        weights = [len(merged.members(child)) for child in children]
        share = wide / max(sum(weights), len(merged.members(node)), 1)
        placed = []
        for child, weight in zip(children, weights, strict=True):
            placed.append(_Bar(child, level + 1, x, weight * share))
            x += weight * share
        waiting.extend(reversed(placed))


def _shape(merged: Merged, bar: _Bar, suspects: Members) -> str:
    node, level, x, wide = bar
    members = merged.members(node)
    label = merged.tree.label(node)
    who = merged.directory.present_missing(members)
    title = f"{label}: {who} ({len(members)} of {len(merged.directory)})"
    y = level * _ROW
    letters = int((wide - 6) / _LETTER)
    shown = label if len(label) <= letters else f"{label[: letters - 1]}…" if letters > 3 else ""  # noqa: PLR2004
    inside = f'<text x="{x + 3:.1f}" y="{y + 13}">{_safe(shown)}</text>' if shown else ""
    marked = ' class="cc-suspect"' if members and not members - suspects else ""
    return (
        f'<g tabindex="0" role="img" aria-label="{_safe(title)}"{marked}><title>{_safe(title)}</title>'
        f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{_ROW - 1}" fill="{_colour(who)}"/>{inside}</g>'
    )


def _colour(who: str) -> str:
    """Return a light colour that depends on the members only."""
    number = crc32(who.encode())
    red, green, blue = colorsys.hls_to_rgb(number % 360 / 360, 0.72 + (number >> 9) % 12 / 100, 0.6)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _safe(text: str) -> str:
    """Escape, and drop what XML does not allow in any form."""
    return escape("".join(letter for letter in text if letter >= " " and not "\ud800" <= letter <= "\udfff"))
