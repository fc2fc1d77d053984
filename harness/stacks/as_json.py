"""A merged tree for programs: plain values, ready for a JSON encoder."""

from __future__ import annotations

from typing import Any, Final

from harness.stacks.members import Members
from harness.stacks.merged import ROOT, Merged
from harness.stacks.suspect import Findings

SCHEMA: Final = 2
"""Grows when a field changes its meaning or goes; a reader ignores fields that it does not know.

2: the leaves of a class are without threads that Python never saw.
"""


def as_json(merged: Merged, findings: Findings | None = None, *, most_ranges: int | None = 256) -> dict[str, Any]:
    """Return the tree, the classes and the suspects; equal merges give equal values.

    Members are given by role as folded ranges of ranks (of pids under ``ROLE pid``), with ``…`` behind the first
    ``most_ranges`` of them; ``count`` is always exact. Nodes stand parents first, the widest sibling first.
    """
    tree, directory = merged.tree, merged.directory

    def who(members: Members) -> dict[str, str]:
        return {
            group.role if group.by_rank else f"{group.role} pid": directory.show(members, group, most_ranges)
            for group in directory.groups_of(members)
        }

    numbers = {node: number for number, node in enumerate(merged.walk())}
    nodes = []
    for node, number in numbers.items():
        members, frame, lines = merged.members(node), tree.frames[node], tree.lines[node]
        everybody = directory.all_of(directory.groups_of(members))
        nodes.append({
            "id": number,
            "parent": None if tree.parents[node] == ROOT else numbers[tree.parents[node]],
            "function": frame.function,
            "file": frame.file,
            "lines": [min(lines), max(lines)] if lines else None,
            "native": frame.native,
            "present": who(members),
            "missing": who(everybody - members),
            "count": len(members),
            "stacks": tree.threads[node],
        })  # fmt: skip
    return {
        "schema": SCHEMA,
        "processes": len(directory),
        "stacks": sum(tree.threads),
        "samples": list(merged.samples),
        "tools": list(merged.tools),
        "left_out_frames": tree.left_out,
        "partial": who(merged.partial),
        "nodes": nodes,
        "classes": [
            {
                "members": who(one.members),
                "count": len(one.members),
                "leaves": sorted(numbers[leaf] for leaf in one.leaves),
                "representative": _process(merged, one.representative),
            }
            for one in merged.classes
        ],
        "suspects": [
            {"who": one.who, "members": who(one.members), "rule": one.rule.name.lower(), "reasons": list(one.reasons)}
            for one in (findings.suspects if findings else ())
        ],
        "remarks": list(findings.remarks) if findings else [],
    }


def _process(merged: Merged, position: int) -> dict[str, Any]:
    process = merged.directory.process(position)
    return {
        "pid": process.key.pid,
        "start": process.key.start,
        "host": process.host,
        "role": process.role,
        "title": process.title,
        "rank": process.rank,
    }
