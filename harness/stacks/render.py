"""A merged tree for people at a terminal: never more lines than asked for, whatever came in.

The suspects come first, then the classes, then the tree. In the tree a run of frames with the same members is one
segment. Segments are chosen from the outermost inwards, those of suspects and the widest first, until the lines are
used up; then as many of them as fit are shown with a line for each frame. What is left out is said where it was.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from harness.stacks.members import Members
from harness.stacks.merged import ROOT, Merged
from harness.stacks.suspect import Findings

LINES: Final = 200
_SUSPECTS: Final = 12
_CLASSES: Final = 30
_LABEL: Final = 110
_WIDTH: Final = 180
_DEPTH: Final = 30  # levels of indentation


@dataclass(slots=True, eq=False)
class _Segment:
    nodes: list[int]
    depth: int
    children: list[_Segment] = field(default_factory=list)
    shown: bool = False
    whole: bool = False


def text(merged: Merged, findings: Findings | None = None, *, lines: int = LINES) -> str:
    """Return at most ``lines`` lines (50 are the fewest that make sense), each with its end of line."""
    head = [*_summary(merged), *_suspects(findings), *_classes(merged)]
    marked = Members()
    for suspect in findings.suspects if findings else ():
        marked.update(suspect.members)
    room = max(lines - len(head) - 2, 1)
    root = _segments(merged)
    _choose(merged, root, marked, room)
    body = list(_draw(merged, root))
    shown = [*head, "", "stacks, outermost call first; who is there | who of the same roles is not:", *body]
    return "".join(f"{line}\n" for line in shown[:lines])


def _summary(merged: Merged) -> Iterator[str]:
    tree = merged.tree
    tools = f" by {', '.join(merged.tools)}" if merged.tools else ""
    samples = f" in {len(merged.samples)} samples" if len(merged.samples) > 1 else ""
    yield (
        f"{_count(sum(tree.threads), 'stack')} of {_count(len(merged.directory), 'process')}{tools}{samples}, "
        f"{_count(len(merged.classes), 'class')} of processes that look alike"
    )
    if tree.left_out:
        yield f"left out: {_count(tree.left_out, 'frame')} of thread start, interpreter and libc's sleep"
    if merged.partial:
        yield f"partial stacks, not compared: {merged.directory.present_missing(merged.partial).partition('|')[0]}"


def _suspects(findings: Findings | None) -> Iterator[str]:
    if findings is None:
        return
    for suspect in findings.suspects[:_SUSPECTS]:
        yield _cut(f"suspect: {suspect.who}: {'; also '.join(suspect.reasons)}", 3 * _WIDTH)
    if len(findings.suspects) > _SUSPECTS:
        yield f"… {_count(len(findings.suspects) - _SUSPECTS, 'more suspect')}"
    yield from findings.remarks[:_SUSPECTS]


def _classes(merged: Merged) -> Iterator[str]:
    directory = merged.directory
    yield ""
    for number, one in enumerate(merged.classes[:_CLASSES], 1):
        process = directory.process(one.representative)
        title = f" {_cut(process.title, 40)}" if process.title else ""
        host = f" on {process.host}" if process.host else ""
        present = "; ".join(part.partition("|")[0] for part in directory.present_missing(one.members).split("; "))
        yield _cut(
            f"class {number}: {present} ({len(one.members)} of {len(directory)}, "
            f"{_count(len(one.leaves), 'stack')}), e.g. pid {process.key.pid}{title}{host}",
            _WIDTH,
        )
    rest = merged.classes[_CLASSES:]
    if rest:
        yield f"… {_count(len(rest), 'more class')} with {_count(sum(len(c.members) for c in rest), 'process')}"


def _segments(merged: Merged) -> _Segment:
    """Return the tree with runs of frames joined where one leads to the next only, for the same members."""
    root = _Segment([ROOT], -1, shown=True)
    waiting = [root]
    while waiting:
        segment = waiting.pop()
        children = merged.children(segment.nodes[-1])
        if len(children) == 1 and segment is not root and _same(merged, segment.nodes[-1], children[0]):
            segment.nodes.append(children[0])
            waiting.append(segment)
            continue
        segment.children = [_Segment([child], segment.depth + 1) for child in children]
        waiting.extend(segment.children)
    return root


def _same(merged: Merged, node: int, child: int) -> bool:
    here, there = merged.members(node), merged.members(child)
    return merged.tree.threads[node] == 0 and (here is there or len(here) == len(there))


def _choose(merged: Merged, root: _Segment, marked: Members, room: int) -> None:
    """Mark the segments that are shown, then those that are shown frame by frame, within so many lines."""
    counter = 0
    heap: list[tuple[int, int, int, _Segment, _Segment]] = []
    hidden: dict[int, int] = {}

    def offer(parent: _Segment) -> None:
        nonlocal counter
        hidden[id(parent)] = len(parent.children)
        for child in parent.children:
            members = merged.members(child.nodes[0])
            counter += 1
            heapq.heappush(heap, (-len(members & marked) * 2 // len(members), -len(members), counter, child, parent))

    offer(root)
    used = 1 if root.children else 0
    chosen: list[_Segment] = []
    while heap:
        _, _, _, segment, parent = heapq.heappop(heap)
        # A line for itself, one for what stays hidden below it, none any more for what was hidden beside it.
        cost = 1 + bool(segment.children) - (hidden[id(parent)] == 1)
        if used + cost > room:
            break
        used += cost
        hidden[id(parent)] -= 1
        segment.shown = True
        chosen.append(segment)
        if segment.children:
            offer(segment)
    for segment in chosen:
        if used + len(segment.nodes) - 1 <= room:
            used += len(segment.nodes) - 1
            segment.whole = True


def _draw(merged: Merged, root: _Segment) -> Iterator[str]:
    waiting: list[_Segment | str] = [root]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
            continue
        if item is not root:
            yield from _lines(merged, item)
        hidden = [child for child in item.children if not child.shown]
        if hidden:
            members = Members()
            for child in hidden:
                members.update(merged.members(child.nodes[0]))
            waiting.append(
                f"{_indent(item.depth + 1)}- … {_count(len(hidden), 'more branch')} "
                f"[{_cut(merged.directory.present_missing(members, 4), 60)}]"
            )
        waiting.extend(child for child in reversed(item.children) if child.shown)


def _lines(merged: Merged, segment: _Segment) -> Iterator[str]:
    tree, nodes = merged.tree, segment.nodes
    members = merged.members(nodes[0])
    who = f"  [{_cut(merged.directory.present_missing(members), 90)}]"
    ends = tree.threads[nodes[-1]]
    many = f"  {ends} stacks" if ends and ends != len(merged.members(nodes[-1])) else ""
    indent = _indent(segment.depth)
    labels = [_cut(tree.label(node), _LABEL) for node in nodes]
    if not segment.whole:
        yield f"{indent}- {_chain(labels)}{who}{many}"
        return
    for index, label in enumerate(labels):
        first, last = index == 0, index == len(labels) - 1
        yield f"{indent}{'- ' if first else '  '}{label}{who if first else ''}{many if last else ''}"


def _chain(labels: list[str]) -> str:
    """Put frames on one line, leaving out those in the middle where it gets too long."""
    head, tail = labels[:1], labels[1:]
    kept: list[str] = []
    length = len(head[0])
    while tail and length + len(tail[-1]) < _WIDTH:
        length += len(tail[-1]) + 3
        kept.insert(0, tail.pop())
    middle = [f"… {len(tail)} …"] if tail else []
    return " > ".join(head + middle + kept)


def _indent(depth: int) -> str:
    return "  " * min(depth, _DEPTH) + (f"({depth}) " if depth > _DEPTH else "")


def _cut(shown: str, most: int) -> str:
    if not shown.isprintable():
        shown = " ".join("".join(letter if letter.isprintable() else " " for letter in shown).split())
    return shown if len(shown) <= most else f"{shown[: most // 2]}…{shown[-(most // 2) + 1 :]}"


def _count(number: int, what: str) -> str:
    plural = "es" if what.endswith(("s", "ch")) else "s"
    return f"{number} {what}{'' if number == 1 else plural}"
