"""Everything that a vendor's report is made from, read from the record and from what lies beside it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from harness.causes import Story, tell
from harness.errors import UsageError
from harness.judge import Row
from harness.outcome import VerdictName
from harness.probes.collectors import FOLDER, INDEX, Collection, Index
from harness.record import Manifest, build_attempt, read_manifest
from harness.spec import Scenario
from reports.evidence import Excerpt, MergedStacks, merged_stacks, outputs
from reports.load import load_rows
from reports.log import Log
from reports.vendor.vendors import Vendor

FAILED = frozenset({VerdictName.REPRODUCED, VerdictName.OTHER_FAILURE})


@dataclass(slots=True, kw_only=True)
class Facts:
    """What is known of one failing cell of a run."""

    directory: Path
    vendor: Vendor
    manifest: Manifest
    row: Row
    rows: list[Row]
    """Rows of the same scenario, this one among them."""
    scenario: Scenario | None
    story: Story | None
    stacks: MergedStacks | None
    logs: list[Excerpt]
    collected: Index
    packages: dict[str, str]
    variables: dict[str, str | None]
    events: bytes
    """The lines of the log that belong to the cell."""
    control: Row | None = None
    reproducer: str = ""
    missing: list[dict[str, str]] = field(default_factory=list)

    def miss(self, what: str, why: str) -> None:
        """Note that something is not in the bundle."""
        self.missing.append({"what": what, "why": why})

    def environment(self, name: str) -> str:
        """Return the output of a collector, empty if there is none."""
        try:
            return (self.directory / FOLDER / f"{name}.txt").read_text(errors="replace")
        except OSError:
            return ""


def gather(directory: Path, vendor: Vendor, cell: str | None) -> Facts:
    """Read a run; collect the environment now if that was not done when the attempt failed.

    Raises:
        UsageError: If the run has no such cell, or none that failed.
    """
    rows, manifest = load_rows(directory), read_manifest(directory)
    row = choose(rows, cell, directory)
    log = Log(directory)
    recorded = log.read(row.cell, _attempt_number(row))
    events = [one.event for one in recorded]
    story = tell(build_attempt(row.cell, _attempt_number(row), row.params, events)) if events else None
    index, when = _collected(directory)
    facts = Facts(
        directory=directory,
        vendor=vendor,
        manifest=manifest,
        row=row,
        rows=[one for one in rows if one.scenario == row.scenario],
        scenario=_scenario(row.scenario),
        story=story,
        stacks=merged_stacks(directory, row.evidence) if row.evidence else None,
        logs=outputs(directory, row.evidence, 8000) if row.evidence else [],
        collected=index,
        packages=_json(directory / FOLDER / "packages.json"),
        variables=_json(directory / FOLDER / "variables.json"),
        events=_lines(directory, log, row.cell),
    )
    if when:
        facts.miss("the environment at the time of the failure", when)
    elif row.cell not in index.moment:
        facts.miss("the environment right after this cell", f"it was collected once in the run: {index.moment}")
    for one in index.collectors:
        if one.status != "ok" and (one.name in vendor.collectors or one.status != "missing"):
            facts.miss(f"collector {one.name}", f"{one.status}: {one.detail}")
    if facts.stacks is None:
        facts.miss("merged stacks", "none were captured: nothing hung, or the processes were gone")
    return facts


def choose(rows: list[Row], cell: str | None, directory: Path) -> Row:
    """Return the row that is to be reported: the named one, or the first that was reproduced or failed otherwise."""
    failing = [row for row in rows if row.verdict in FAILED]
    if cell is not None:
        named = [row for row in rows if row.cell == cell]
        if not named:
            msg = f"{directory} has no cell {cell!r}"
            raise UsageError(msg, hint=f"its failing cells: {', '.join(row.cell for row in failing) or 'none'}")
        if named[0].verdict not in FAILED:
            msg = f"{cell} did not fail: {named[0].verdict.value}"
            raise UsageError(msg, hint=f"failing cells: {', '.join(row.cell for row in failing) or 'none'}")
        return named[0]
    if not failing:
        msg = f"{directory} has no failing cell to report"
        raise UsageError(msg, hint="`crashcart report RUN` shows its rows")
    return min(failing, key=lambda row: (row.verdict is not VerdictName.REPRODUCED, row.control_of is not None))


def _attempt_number(row: Row) -> int:
    return int(row.evidence.rpartition("/")[2] or 1) if row.evidence else 1


def _collected(directory: Path) -> tuple[Index, str]:
    """Return what was collected at failure time, or collect it now and say so."""
    folder = directory / FOLDER
    try:
        index = msgspec.json.decode((folder / INDEX).read_bytes(), type=Index)
    except (OSError, msgspec.DecodeError):
        collection = Collection(folder, "when the bundle was made")
        return collection.wait(), "the run did not collect it; it was collected when the bundle was made"
    late = index.moment.startswith("when")
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(index.wall_ns / 1e9))
    return index, f"the run did not collect it; it was collected later, at {when}" if late else ""


def _lines(directory: Path, log: Log, cell: str) -> bytes:
    wanted = {one.line for number in log.attempts_of(cell) for one in log.read(cell, number)}
    try:
        with (directory / "events.jsonl").open("rb") as lines:
            return b"".join(line for number, line in enumerate(lines, 1) if number in wanted)
    except OSError:
        return b""


def _json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _scenario(name: str) -> Scenario | None:
    from scenarios.registry import all_scenarios

    return next((scenario for scenario in all_scenarios() if scenario.name == name), None)
