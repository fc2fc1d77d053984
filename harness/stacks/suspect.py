"""Who is to blame, by the stacks alone, and why: or that the stacks do not say.

Five rules, the most telling first. A process named by several keeps all reasons. None of them proves anything; the
wait graph of /proc does, where it can.

1. absent: some ranks of a role wait in a collective, the fewer rest is elsewhere. The rest is awaited.
2. alone: as before, but the ones in the collective are the fewer; or all are in one, and a few in another one.
3. gil: a thread keeps the GIL in one place over all samples, or others wait for it.
4. motion: over several samples a few of a role stand still while most move, or move while most stand still.
5. minority: most of a role have the same set of stacks, a few have another (ByteRobust's rule).

Rules 1, 2, 4 and 5 compare processes of one role; partial stacks and stacks of different tools are never compared.
"""

from __future__ import annotations

from collections import defaultdict
from enum import IntEnum
from typing import Final

import msgspec

from harness.stacks.collectives import operation
from harness.stacks.members import Members
from harness.stacks.merged import Merged, Observations, Seen
from harness.stacks.roster import Group

_MOST: Final = 5  # suspects of the minority rule in one role; more outliers than that are not outliers


class Rule(IntEnum):
    """Why somebody is suspected, the most telling first."""

    ABSENT = 1
    ALONE = 2
    GIL = 3
    MOTION = 4
    MINORITY = 5


class Suspect(msgspec.Struct, frozen=True):
    """Processes of one role that stand out together."""

    who: str
    """``worker 3``, ``worker 3,5`` or ``raylet pid 812``."""
    members: Members
    rule: Rule
    reasons: tuple[str, ...]


class Findings(msgspec.Struct, frozen=True):
    """What the stacks say: suspects, the strongest first, and remarks; without suspects a remark says why."""

    suspects: tuple[Suspect, ...]
    remarks: tuple[str, ...]


def suspects(merged: Merged) -> Findings:
    """Name the processes that stand out, with reasons in words; an empty list where nobody does."""
    found: list[Suspect] = []
    remarks: list[str] = []
    for group in merged.directory.groups:
        found += _Comparison(merged, group, remarks).suspects()
    for one in merged.observations:
        found += _gil(merged, one)
    if not found and not remarks:
        remarks.append(
            "no suspect: every role has one process only, so that there is nothing to compare"
            if all(group.stop - group.start == 1 for group in merged.directory.groups)
            else "no suspect: within each role, all processes stand alike or none is in the majority"
        )
    return Findings(tuple(_joined(found)), tuple(remarks))


def _joined(found: list[Suspect]) -> list[Suspect]:
    """Put the reasons of the same processes together, under the most telling rule."""
    joined: list[Suspect] = []
    for one in sorted(found, key=lambda one: one.rule):
        for index, other in enumerate(joined):
            if other.members == one.members:
                joined[index] = msgspec.structs.replace(other, reasons=other.reasons + one.reasons)
                break
        else:
            joined.append(one)
    return joined


class _Comparison:
    """The processes of one role, against each other."""

    def __init__(self, merged: Merged, group: Group, remarks: list[str]) -> None:
        self._merged = merged
        self._group = group
        self._remarks = remarks
        everybody = merged.directory.all_of([group])
        by_tools: dict[tuple[str, ...], list[Observations]] = defaultdict(list)
        for one in merged.observations:
            mine = one.members & everybody
            if mine and not any(seen.partial for seen in one.telling):
                tools = tuple(sorted({seen.tool for seen in one.seen}))
                by_tools[tools].append(Observations(mine, one.telling))
        # The stacks of two tools differ for reasons of their own: the largest set of one tool is compared.
        self._compared = max(by_tools.values(), key=lambda some: sum(len(one.members) for one in some), default=[])

    def suspects(self) -> list[Suspect]:
        if sum(len(one.members) for one in self._compared) < 2:  # noqa: PLR2004 - it takes two
            return []
        found = self._collectives()
        return (found or self._minority()) + self._motion()

    def _collectives(self) -> list[Suspect]:
        waiting: dict[frozenset[str], Members] = defaultdict(Members)
        elsewhere = Members()
        for one in self._compared:
            operations = _operations(self._merged, one)
            (waiting[operations] if operations else elsewhere).update(one.members)
        together = Members()
        for members in waiting.values():
            together.update(members)
        names = " or ".join(sorted("/".join(sorted(operations)) for operations in waiting))
        if not waiting:
            return []
        if elsewhere and len(elsewhere) <= len(together):
            reason = f"not in {names}, where {self._show(together)} {_wait(together)}"
            return [self._suspect(elsewhere, Rule.ABSENT, f"{reason}; stands in {self._place(elsewhere, together)}")]
        if elsewhere:
            reason = f"in {names}, where {self._show(elsewhere)} {'has' if len(elsewhere) == 1 else 'have'} not come"
            return [self._suspect(together, Rule.ALONE, reason)]
        return self._mismatch(waiting)

    def _mismatch(self, waiting: dict[frozenset[str], Members]) -> list[Suspect]:
        if len(waiting) < 2:  # noqa: PLR2004 - all in the same one
            return []
        ranked = sorted(waiting.items(), key=lambda item: -len(item[1]))
        total = sum(len(members) for _, members in ranked)
        most, many = ranked[0]
        if 2 * len(many) <= total:
            shown = "; ".join(f"{self._show(some)} in {'/'.join(sorted(names))}" for names, some in ranked[:_MOST])
            self._remarks.append(f"no suspect among {self._group.role}: they wait in different collectives, {shown}")
            return []
        return [
            self._suspect(
                some,
                Rule.ALONE,
                f"in {'/'.join(sorted(names))}, while {self._show(many)} wait in {'/'.join(sorted(most))}",
            )
            for names, some in ranked[1:]
        ]

    def _motion(self) -> list[Suspect]:
        still, moving = Members(), Members()
        for one in self._compared:
            standing = _standing(one)
            if standing is not None:
                (still if standing else moving).update(one.members)
        if not still or not moving or len(still) == len(moving):
            return []
        if len(still) < len(moving):
            reason = f"stands still over {len(self._merged.samples)} samples, while {self._show(moving)} move"
            return [self._suspect(still, Rule.MOTION, f"{reason}; stands in {self._place(still, moving)}")]
        reason = f"moves, while {self._show(still)} stand{'s' if len(still) == 1 else ''} still and may wait for it"
        return [self._suspect(moving, Rule.MOTION, f"{reason}; seen in {self._place(moving, still)}")]

    def _minority(self) -> list[Suspect]:
        classes: dict[frozenset[int], Members] = defaultdict(Members)
        for one in self._compared:
            classes[frozenset(seen.leaf for seen in one.seen)].update(one.members)
        total = sum(len(members) for members in classes.values())
        _, many = max(classes.items(), key=lambda item: len(item[1]))
        rest = sorted((some for some in classes.values() if some is not many), key=lambda some: (len(some), min(some)))
        if not rest:
            return []
        if 2 * len(many) <= total:
            sizes = "/".join(str(len(some)) for some in (many, *rest[::-1])[:_MOST])
            self._remarks.append(
                f"no suspect among {total} {self._group.role}: no class of stacks has the majority ({sizes}"
                f"{'…' if len(rest) >= _MOST else ''})"
            )
            return []
        if len(rest) > _MOST:
            self._remarks.append(f"{len(rest) - _MOST} more classes of {self._group.role} differ from the majority")
        return [
            self._suspect(
                some,
                Rule.MINORITY,
                f"differs from {len(many)} of {total} {self._group.role}: stands in {self._place(some, many)}, "
                f"they in {self._place(many, some)}",
            )
            for some in rest[:_MOST]
        ]

    def _suspect(self, members: Members, rule: Rule, reason: str) -> Suspect:
        return Suspect(self._show(members), members, rule, (reason,))

    def _show(self, members: Members) -> str:
        kind = self._group.role if self._group.by_rank else f"{self._group.role} pid"
        return f"{kind} {self._merged.directory.show(members, self._group)}"

    def _place(self, some: Members, others: Members) -> str:
        """Where the first of some stands and others do not: the Python side if there is one."""
        first, theirs = set[int](), set[int]()
        position = next(iter(some))
        for one in self._compared:
            leaves = {seen.leaf for seen in one.seen}
            if position in one.members:
                first |= leaves
            elif one.members & others:
                theirs |= leaves
        return place(self._merged, first - theirs or first)


def place(merged: Merged, leaves: set[int]) -> str:
    """Say where a process stands, by the one of its stacks that tells most: Python before native, deep before flat."""
    tree = merged.tree
    paths = [tree.path(leaf) for leaf in leaves]
    if not paths:
        return "nothing that could be read"
    python = [[node for node in path if not tree.frames[node].native] for path in paths]
    deepest = max(python, key=lambda path: (len(path), [tree.label(node) for node in path]))
    if deepest:
        return tree.label(deepest[-1])
    longest = max(paths, key=lambda path: (len(path), [tree.label(node) for node in path]))
    return " > ".join(tree.label(node) for node in longest[-3:])


def _wait(members: Members) -> str:
    return "waits" if len(members) == 1 else "wait"


def _operations(merged: Merged, one: Observations) -> frozenset[str]:
    """Return the collectives in which processes were in every sample, each stack counted by its outermost one."""
    tree = merged.tree
    by_sample: dict[int, set[str]] = {seen.sample: set() for seen in one.seen}
    for seen in one.seen:
        for node in tree.path(seen.leaf):
            if name := operation(tree.frames[node]):
                by_sample[seen.sample].add(name)
                break
    return frozenset(set.intersection(*by_sample.values())) if by_sample else frozenset()


def _standing(one: Observations) -> bool | None:
    """Whether every sample shows the same stacks; ``None`` of a single sample."""
    by_sample: dict[int, set[int]] = defaultdict(set)
    for seen in one.seen:
        by_sample[seen.sample].add(seen.leaf)
    if len(by_sample) < 2:  # noqa: PLR2004 - motion is between two
        return None
    return len({frozenset(leaves) for leaves in by_sample.values()}) == 1


def _gil(merged: Merged, one: Observations) -> list[Suspect]:
    samples = {seen.sample for seen in one.seen}
    holders: dict[tuple[int, str], set[int]] = defaultdict(set)
    waiters: dict[int, set[int]] = defaultdict(set)
    for seen in one.seen:
        if seen.holds_gil:
            holders[seen.leaf, seen.thread_name].add(seen.sample)
        if seen.waits == "gil" or _takes_gil(merged, seen):
            waiters[seen.sample].add(seen.leaf)
    directory = merged.directory
    found = []
    for (leaf, name), when in holders.items():
        waited = sum(len(leaves) for sample, leaves in waiters.items() if sample in when)
        if (
            when != samples
            or (len(samples) == 1 and not waited)
            or (not waited and not merged.tree.frames[leaf].native)
        ):
            continue
        group = directory.groups_of(one.members)[0]
        thread = f"thread {name}" if name else "a thread"
        others = f", while {waited} other stack{'s wait' if waited > 1 else ' waits'} for it" if waited else ""
        reason = f"{thread} holds the GIL in {_deep(merged, leaf)} in all of {len(samples)} samples{others}"
        who = f"{group.role if group.by_rank else f'{group.role} pid'} {directory.show(one.members, group)}"
        found.append(Suspect(who, one.members, Rule.GIL, (reason,)))
    return found


def _deep(merged: Merged, leaf: int) -> str:
    return " > ".join(merged.tree.label(node) for node in merged.tree.path(leaf)[-2:])


def _takes_gil(merged: Merged, seen: Seen) -> bool:
    return any(merged.tree.frames[node].function == "take_gil" for node in merged.tree.path(seen.leaf)[-4:])
