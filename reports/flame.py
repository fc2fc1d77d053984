"""The flame picture of merged stacks: a box per frame, as wide as the share of members that have it."""

from __future__ import annotations

from dataclasses import dataclass

from reports.evidence import StackNode


@dataclass(frozen=True, slots=True, kw_only=True)
class Flame:
    """A box: position and width in percent, depth in rows."""

    frame: str
    x: float
    width: float
    depth: int
    present: str
    missing: str


def flatten(root: StackNode) -> tuple[list[Flame], int]:
    """Return the boxes of a tree, callers above, and how many rows they take."""
    flames: list[Flame] = []
    waiting = [(root, 0.0, 100.0, 0)]
    while waiting:
        node, x, width, depth = waiting.pop()
        flames.append(
            Flame(
                frame=node.frame,
                x=round(x, 2),
                width=round(width, 2),
                depth=depth,
                present=node.present,
                missing=node.missing,
            )
        )
        total = max(node.count, sum(child.count for child in node.children), 1)
        for child in node.children:
            share = width * child.count / total
            waiting.append((child, x, share, depth + 1))
            x += share
    return flames, 1 + max(flame.depth for flame in flames)
