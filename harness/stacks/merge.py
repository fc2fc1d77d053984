"""One prefix tree over processes, ranks, threads and repeated samples, and the classes of processes that look alike.

Stacks are merged as they come and then forgotten. What grows with the input is one number for each process (which set
of stacks it has shown so far) and its label; everything else grows with what is different: the nodes of the tree, and
the sets. The members of a node are not kept while merging: they are the union of the classes that pass through it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from harness.stacks.merged import Merged, Seen, Tree
from harness.stacks.model import Frame, Process, ThreadStack
from harness.stacks.roster import Roster
from harness.stacks.symbols import fold

_NOTHING: Final = Frame("[no frames]", native=True)
_REMEMBERED: Final = 1 << 14  # distinct frame tuples whose place in the tree is kept at hand
_DIGITS: Final = re.compile(r"\d+")

_Facts = tuple[int, int, str, str, str, bool | None, str, bool, bool]


class _States:
    """Sets of observations, numbered; a process moves from one to the next with each capture of it."""

    def __init__(self) -> None:
        self.sets: list[frozenset[int]] = [frozenset()]
        self._numbers: dict[frozenset[int], int] = {frozenset(): 0}
        self._steps: dict[tuple[int, frozenset[int]], int] = {}

    def after(self, state: int, seen: frozenset[int]) -> int:
        step = (state, seen)
        following = self._steps.get(step)
        if following is None:
            union = self.sets[state] | seen
            following = self._numbers.setdefault(union, len(self.sets))
            if following == len(self.sets):
                self.sets.append(union)
            self._steps[step] = following
        return following


class Merger:
    """Merges stacks in any order; the result does not depend on it.

    Args:
        lines: Keep calls from different lines of one function apart. Off by default, as ranks rarely wait on the same
            line of a loop.
    """

    def __init__(self, *, lines: bool = False) -> None:
        self._tree = Tree(lines=lines)
        self._roster = Roster()
        self._states = _States()
        self._places: dict[int, tuple[tuple[Frame, ...], int]] = {}
        self._observed: dict[Seen, int] = {}
        self._recent: dict[_Facts, int] = {}
        self._pending: set[int] = set()
        self._current: Process | None = None

    def add(self, stack: ThreadStack) -> None:
        """Merge one stack. Stacks of one process that follow each other are cheapest."""
        if stack.process is not self._current:
            self._settle()
            self._current = stack.process
        place = self._places.get(id(stack.frames))
        leaf = place[1] if place is not None and place[0] is stack.frames else self._place(stack.frames)
        self._tree.threads[leaf] += 1
        facts = (
            leaf, stack.sample, stack.tool, stack.thread_name, stack.state, stack.holds_gil, stack.waits, stack.partial,
            stack.unseen,
        )  # fmt: skip
        number = self._recent.get(facts)
        self._pending.add(self._observe(facts) if number is None else number)

    def result(self) -> Merged:
        """Return what was merged so far; more may be added afterwards."""
        self._settle()
        return Merged.of(self._tree, self._roster, self._states.sets, tuple(self._observed))

    def _place(self, frames: tuple[Frame, ...]) -> int:
        kept, left_out = fold(frames) if frames else ((_NOTHING,), 0)
        leaf = self._tree.insert(kept, left_out)
        if len(self._places) >= _REMEMBERED:
            self._places.clear()
        # The tuple is kept beside its place, so that its id cannot become another's.
        self._places[id(frames)] = (frames, leaf)
        return leaf

    def _observe(self, facts: _Facts) -> int:
        leaf, sample, tool, name, state, holds_gil, waits, partial, unseen = facts
        # A pool's threads are numbered; the number would make every process a class of its own.
        seen = Seen(leaf, sample, tool, _DIGITS.sub("N", name), state, holds_gil, waits, partial, unseen)
        number = self._observed.setdefault(seen, len(self._observed))
        if len(self._recent) >= _REMEMBERED:
            self._recent.clear()
        self._recent[facts] = number
        return number

    def _settle(self) -> None:
        if self._current is not None and self._pending:
            index = self._roster.index(self._current)
            states = self._roster.states
            states[index] = self._states.after(states[index], frozenset(self._pending))
            self._pending.clear()


def merge(stacks: Iterable[ThreadStack], *, lines: bool = False) -> Merged:
    """Merge the stacks of any number of processes, threads and samples."""
    merger = Merger(lines=lines)
    for stack in stacks:
        merger.add(stack)
    return merger.result()
