"""What merging gives: the tree, who stands at each node, and the classes of processes that look alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from harness.stacks.members import Members
from harness.stacks.model import Frame
from harness.stacks.roster import Directory, Roster

ROOT: Final = 0

_Key = tuple[str, str, int | None]


class Seen(msgspec.Struct, frozen=True):
    """One way in which a thread was seen: where it stood (a node of the tree), and what the tool said of it."""

    leaf: int
    sample: int
    tool: str
    thread_name: str
    """With every number in it replaced by ``N``."""
    state: str
    holds_gil: bool | None
    waits: str
    partial: bool
    unseen: bool
    """By Python, see `harness.stacks.model.ThreadStack`: in the tree, but no mark of a class, and nobody's reason."""


class Tree:
    """The prefix tree, as columns; a node's number is larger than its parent's. Node 0 is the root, no frame."""

    def __init__(self, *, lines: bool) -> None:
        self.parents: list[int] = [ROOT]
        self.frames: list[Frame] = [Frame("")]
        self.lines: list[set[int]] = [set()]
        self.children: list[dict[_Key, int]] = [{}]
        self.threads: list[int] = [0]
        """How many stacks ended here, over all processes and samples."""
        self.left_out = 0
        """Frames that every distinct stack lost to folding, in all."""
        self._by_line = lines

    def insert(self, frames: tuple[Frame, ...], left_out: int) -> int:
        """Return the node at the end of a stack, having made what was missing."""
        node = ROOT
        for frame in frames:
            line = frame.line if self._by_line else None
            key = (frame.name, frame.file, line)
            child = self.children[node].get(key)
            if child is None:
                child = self._new(node, key, frame)
            elif (len(frame.function), frame.function) > (
                len(self.frames[child].function),
                self.frames[child].function,
            ):
                self.frames[child] = frame
            if frame.line is not None:
                self.lines[child].add(frame.line)
            node = child
        self.left_out += left_out
        return node

    def _new(self, parent: int, key: _Key, frame: Frame) -> int:
        node = len(self.parents)
        self.parents.append(parent)
        self.frames.append(frame)
        self.lines.append(set())
        self.children.append({})
        self.threads.append(0)
        self.children[parent][key] = node
        return node

    def path(self, node: int) -> list[int]:
        """Return the nodes from the outermost frame to a node."""
        found = []
        while node != ROOT:
            found.append(node)
            node = self.parents[node]
        return found[::-1]

    def label(self, node: int) -> str:
        """Show a node as ``function (file:line)``, with the range of lines where ranks differ in it."""
        frame, lines = self.frames[node], self.lines[node]
        if not lines:
            return str(Frame(frame.function, frame.file))
        low, high = min(lines), max(lines)
        place = f"{frame.file}:{low}" if low == high else f"{frame.file}:{low}-{high}"
        return f"{frame.function} ({place})"


class StackClass(msgspec.Struct, frozen=True):
    """Processes with the same set of thread stacks over all samples, those apart that Python never saw."""

    members: Members
    leaves: frozenset[int]
    representative: int
    """Position of the first member: the one to attach a debugger to."""


class Observations(msgspec.Struct, frozen=True):
    """Processes that were seen in exactly the same ways."""

    members: Members
    seen: tuple[Seen, ...]

    @property
    def telling(self) -> tuple[Seen, ...]:
        """Those by which processes are compared; the pollers of a library come and go without a meaning."""
        return tuple(seen for seen in self.seen if not seen.unseen)


class Merged:
    """The result of a merge. Positions number the processes; `directory` knows what they are called."""

    def __init__(self, tree: Tree, directory: Directory, observations: tuple[Observations, ...]) -> None:
        self.tree = tree
        self.directory = directory
        self.observations = observations
        every = [seen for one in observations for seen in one.seen]
        self.samples = tuple(sorted({seen.sample for seen in every}))
        self.tools = tuple(sorted({seen.tool for seen in every if seen.tool}))
        self.partial = Members()
        for one in observations:
            if any(seen.partial for seen in one.telling):
                self.partial.update(one.members)
        self.classes = _classes(observations)
        self._members = _members(tree, observations)
        self._telling = {node for one in self.classes for leaf in one.leaves for node in tree.path(leaf)}

    @classmethod
    def of(cls, tree: Tree, roster: Roster, sets: Sequence[frozenset[int]], observed: tuple[Seen, ...]) -> Merged:
        """Build the result from a merger's columns; costs one pass over the processes."""
        directory = roster.directory()
        members: dict[int, Members] = defaultdict(Members)
        begin, previous, position = 0, -1, 0
        for position, state in enumerate(directory.states()):
            if state != previous:
                if previous >= 0:
                    members[previous].add_range(begin, position)
                begin, previous = position, state
        if previous >= 0:
            members[previous].add_range(begin, position + 1)
        return cls(
            tree,
            directory,
            tuple(
                Observations(found, tuple(observed[number] for number in sorted(sets[state])))
                for state, found in members.items()
            ),
        )

    def members(self, node: int) -> Members:
        """Return who has a thread that passes through a node; of the root, everybody."""
        return self._members.get(node) or Members()

    def children(self, node: int) -> list[int]:
        """Return a node's children, the widest first; equal ones by name, threads that Python never saw at the end."""
        tree = self.tree

        def order(child: int) -> tuple[bool, int, str, bool]:
            known = child in self._telling
            return not known, -len(self.members(child)), tree.label(child), tree.frames[child].native

        return sorted(tree.children[node].values(), key=order)

    def walk(self, node: int = ROOT) -> Iterator[int]:
        """Yield every node below a node, parents first, siblings in order."""
        waiting = self.children(node)[::-1]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(self.children(node)[::-1])


def _members(tree: Tree, observations: tuple[Observations, ...]) -> dict[int, Members]:
    """Return who passes through each node; a node with the same members as its only child shares their set."""
    found: dict[int, Members] = defaultdict(Members)
    for one in observations:
        for leaf in {seen.leaf for seen in one.seen}:
            found[leaf].update(one.members)
    own = set(found)  # sets that nobody else holds yet
    for node in range(len(tree.parents) - 1, 0, -1):  # children come after their parents
        members, parent = found[node], tree.parents[node]
        if parent not in found:
            found[parent] = members
            continue
        if parent not in own:
            found[parent] = found[parent] | Members()  # a copy: the set is still a child's
            own.add(parent)
        found[parent].update(members)
    return found


def _classes(observations: tuple[Observations, ...]) -> tuple[StackClass, ...]:
    grouped: dict[frozenset[int], Members] = defaultdict(Members)
    for one in observations:
        grouped[frozenset(seen.leaf for seen in one.telling)].update(one.members)
    found = [StackClass(members, leaves, next(members.runs())[0]) for leaves, members in grouped.items()]
    return tuple(sorted(found, key=lambda one: (-len(one.members), one.representative)))
