"""Stacks of many processes: parsed from any tool, merged into one tree, and asked who is to blame.

Pure: no process is started and no file is opened here; text comes in, values go out.

- `parse` reads one dump of any tool, `read_dumps` a stream of many; `kernel_stacks` takes what /proc shows.
- `merge` (or a `Merger`, one dump at a time) makes a `Merged`: prefix tree, members of each node, classes.
- `suspects` names who stands out, with the reason, or says that nobody does.
- `text`, `as_json` and `svg` show it.
"""

from __future__ import annotations

from harness.stacks.as_json import as_json
from harness.stacks.dumps import Tool, parse, read_dumps, sniff, write_dump
from harness.stacks.kernel import kernel_stacks
from harness.stacks.merge import Merger, merge
from harness.stacks.merged import Merged
from harness.stacks.model import Frame, Process, ThreadStack, rank_of
from harness.stacks.render import text
from harness.stacks.suspect import Findings, Suspect, suspects
from harness.stacks.svg import svg

__all__ = [
    "Findings",
    "Frame",
    "Merged",
    "Merger",
    "Process",
    "Suspect",
    "ThreadStack",
    "Tool",
    "as_json",
    "kernel_stacks",
    "merge",
    "parse",
    "rank_of",
    "read_dumps",
    "sniff",
    "suspects",
    "svg",
    "text",
    "write_dump",
]
