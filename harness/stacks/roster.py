"""Who was seen: a million processes as columns of numbers, and their order in the result."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import msgspec

from harness.events import ProcessKey
from harness.stacks.members import Members, folded
from harness.stacks.model import Process

_NO_RANK: Final = -1


class Group(msgspec.Struct, frozen=True):
    """Processes of one role that are told apart in the same way: positions ``start`` to ``stop - 1``."""

    role: str
    by_rank: bool
    """Labels are ranks; otherwise pids, as in a role without ranks or with the same rank twice."""
    start: int
    stop: int


class Roster:
    """The processes in order of arrival: about 200 bytes each, most of it the index."""

    def __init__(self) -> None:
        self.states = array("q")
        """For each process the number of the set of stacks it has shown so far."""
        self._index: dict[int, int] = {}
        self._pids = array("q")
        self._starts = array("Q")
        self._ranks = array("q")
        self._kinds = array("q")
        self._kind_numbers: dict[tuple[str, str, str], int] = {}
        self._names: list[tuple[str, str, str]] = []
        self._hosts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._pids)

    def index(self, process: Process) -> int:
        """Return the process's place, having made one for a new process.

        Of a process that described itself differently over time, the description that sorts last counts, so that the
        order of arrival does not.
        """
        key = process.key
        host = self._hosts.setdefault(process.host, len(self._hosts))
        number = (host << 64 | key.start) << 32 | key.pid
        found = self._index.get(number)
        rank = _NO_RANK if process.rank is None else process.rank
        names = (process.role, process.title, process.host)
        kind = self._kind_numbers.setdefault(names, len(self._names))
        if kind == len(self._names):
            self._names.append(names)
        if found is None:
            found = self._index[number] = len(self._pids)
            self._pids.append(key.pid)
            self._starts.append(key.start)
            self._ranks.append(rank)
            self._kinds.append(kind)
            self.states.append(0)
        elif kind != self._kinds[found] or rank != self._ranks[found]:
            self._ranks[found] = max(rank, self._ranks[found])
            if names > self._names[self._kinds[found]]:
                self._kinds[found] = kind
        return found

    def directory(self) -> Directory:
        """Return the processes in the order of the result: by role, then rank, then identity."""
        by_role: dict[str, list[int]] = {}
        for index, kind in enumerate(self._kinds):
            by_role.setdefault(self._names[kind][0], []).append(index)
        groups: list[Group] = []
        order = array("q")
        labels = array("q")
        for role in sorted(by_role):
            for by_rank, members, column in self._split(by_role[role]):
                groups.append(Group(role, by_rank, len(order), len(order) + len(members)))
                order.extend(members)
                labels.extend([column[index] for index in members])
        return Directory(self, groups, order, labels)

    def _split(self, indices: list[int]) -> Iterator[tuple[bool, list[int], array[int]]]:
        pids, starts, ranks, kinds = self._pids, self._starts, self._ranks, self._kinds
        ranked = [index for index in indices if ranks[index] != _NO_RANK]
        column = [ranks[index] for index in ranked]
        ascending = all(a < b for a, b in pairwise(column))
        if ascending or len(set(column)) == len(column):
            rest = [index for index in indices if ranks[index] == _NO_RANK] if len(ranked) < len(indices) else []
            if ranked:
                yield True, ranked if ascending else sorted(ranked, key=ranks.__getitem__), ranks
        else:
            rest = indices
        if rest:
            yield False, sorted(rest, key=lambda i: (pids[i], self._names[kinds[i]][2], starts[i], ranks[i])), pids

    def process(self, index: int) -> Process:
        """Return the process that has a place."""
        role, title, host = self._names[self._kinds[index]]
        rank = self._ranks[index]
        key = ProcessKey(self._pids[index], self._starts[index])
        return Process(key, title, role, None if rank == _NO_RANK else rank, host)


class Directory:
    """The processes of a result by their position, and what positions are called."""

    def __init__(self, roster: Roster, groups: list[Group], order: array[int], labels: array[int]) -> None:
        self.groups = tuple(groups)
        self.labels = labels
        self._roster = roster
        self._order = order
        # Where the next label is not the next number, a run of positions is no run of labels.
        bounds = {group.start for group in groups}
        self._breaks = [
            position
            for position in range(1, len(labels))
            if labels[position] != labels[position - 1] + 1 or position in bounds
        ]

    def __len__(self) -> int:
        return len(self._order)

    def states(self) -> Iterator[int]:
        """Yield each process's number of its set of stacks, by position."""
        states = self._roster.states
        return (states[index] for index in self._order)

    def process(self, position: int) -> Process:
        """Return the process at a position."""
        return self._roster.process(self._order[position])

    def all_of(self, groups: list[Group]) -> Members:
        """Return every position of some groups."""
        members = Members()
        for group in groups:
            members.add_range(group.start, group.stop)
        return members

    def groups_of(self, members: Members) -> list[Group]:
        """Return the groups that have a member among these, in order."""
        starts = [group.start for group in self.groups]
        found: dict[int, None] = {}
        for start, stop in members.runs():
            first, last = bisect_right(starts, start) - 1, bisect_right(starts, stop - 1) - 1
            found.update(dict.fromkeys(range(first, last + 1)))
            if len(found) == len(starts):
                break
        return [self.groups[number] for number in found]

    def runs(self, members: Members, group: Group) -> Iterator[tuple[int, int]]:
        """Yield runs of labels ``(start, stop)`` of the members that belong to a group."""
        labels, breaks = self.labels, self._breaks
        for start, stop in members.runs():
            begin, end = max(start, group.start), min(stop, group.stop)
            while begin < end:
                index = bisect_right(breaks, begin)
                cut = min(end, breaks[index]) if index < len(breaks) else end
                yield labels[begin], labels[begin] + cut - begin
                begin = cut

    def show(self, members: Members, group: Group, most: int | None = 8) -> str:
        """Show the members of a group by their labels, in at most so many ranges."""
        return folded(self.runs(members, group), most)

    def present_missing(self, members: Members, most: int | None = 8) -> str:
        """Show who is there and, behind a bar, who of the same roles is not: ``worker 0-2,5-7|3-4``."""
        shown = []
        for group in self.groups_of(members):
            everybody = self.all_of([group])
            there, absent = self.show(members, group, most), self.show(everybody - members, group, most)
            label = group.role if group.by_rank else f"{group.role} pid"
            shown.append(f"{label} {there}|{absent}" if absent else f"{label} {there}")
        return "; ".join(shown)
