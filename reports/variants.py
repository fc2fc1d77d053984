"""Variants of a workload side by side: a line per workload, a column per variant, throughput or how it failed.

A failing variant stands there as such, whatever figures it had until then; a ratio is of variants that passed, to the
first one of the line that did, with its interval over the attempts. Every row of the runs is in exactly one field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from statistics import fmean
from typing import Final

from tabulate import tabulate

from harness.errors import UsageError
from harness.judge import Row
from harness.outcome import VerdictName
from harness.record import read_manifest
from reports.compare import Figures, Ratio, ratio
from reports.load import load_rows
from reports.markdown import escape

FORMATS: Final = ("table", "md", "csv")
UNSEEN: Final = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A row as a variant of its workload: output tokens per second of each attempt that had the row's verdict."""

    row: Row
    tok_s: tuple[float, ...]
    ratio: Ratio | None = None
    """To the first variant of the line that passed; ``None`` for that one, and for those that have no figures."""

    @property
    def passed(self) -> bool:
        """Whether the failure was absent."""
        return self.row.verdict is VerdictName.ABSENT

    def __str__(self) -> str:
        row = self.row
        count = f" {row.reproduced}/{row.attempts}" if row.attempts > 1 else ""
        match row.verdict:
            case VerdictName.ABSENT if self.tok_s:
                rate = f"{exp(fmean(map(log, self.tok_s))):.1f} tok/s"
                return f"{rate} {self.ratio}" if self.ratio is not None else rate
            case VerdictName.ABSENT:
                return "passed"
            case VerdictName.REPRODUCED:
                return f"✗ {row.signature or 'reproduced'}{count}"
            case _:
                return f"{row.verdict.value}: {row.signature or '; '.join(row.reasons)[:80]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variants:
    """One scenario; a field holds several rows where several runs have the cell."""

    scenario: str
    same: Mapping[str, str]
    """Axes with one value in all lines, of which the table says nothing."""
    down: tuple[str, ...]
    """Axes that tell the lines apart."""
    columns: tuple[str, ...]
    lines: tuple[tuple[tuple[str, ...], tuple[tuple[Field, ...], ...]], ...]


def variants(directories: Sequence[Path], axes: Sequence[str]) -> list[Variants]:
    """Return the variants of each scenario that has the axes.

    Raises:
        RecordError: If one of the directories is no run, or has no results.
        UsageError: If no row has them.
    """
    scenarios: dict[str, list[Field]] = {}
    known: set[str] = set()
    for directory in directories:
        figures = Figures(directory, read_manifest(directory))
        for row in load_rows(directory):
            known |= row.params.keys()
            if all(axis in row.params for axis in axes):
                tokens = tuple(tok_s for _, tok_s in figures.of(row) if tok_s)
                scenarios.setdefault(row.scenario, []).append(Field(row=row, tok_s=tokens))
    if not scenarios:
        msg = f"no row has the axis {', '.join(axes)}"
        raise UsageError(msg, hint=f"axes of these runs: {', '.join(sorted(known))}")
    return [_table(scenario, fields, axes) for scenario, fields in scenarios.items()]


def _table(scenario: str, fields: Sequence[Field], axes: Sequence[str]) -> Variants:
    others = [axis for axis in fields[0].row.params if axis not in axes]
    values = {axis: list(dict.fromkeys(field.row.params.get(axis, UNSEEN) for field in fields)) for axis in others}
    down = tuple(axis for axis in others if len(values[axis]) > 1)
    columns = tuple(dict.fromkeys(_variant(field, axes) for field in fields))
    lines: dict[tuple[str, ...], dict[str, list[Field]]] = {}
    for field in fields:
        line = lines.setdefault(tuple(field.row.params.get(axis, UNSEEN) for axis in down), {})
        line.setdefault(_variant(field, axes), []).append(field)
    return Variants(
        scenario=scenario,
        same={axis: found[0] for axis, found in values.items() if len(found) == 1},
        down=down,
        columns=columns,
        lines=tuple((key, _with_ratios([line.get(column, []) for column in columns])) for key, line in lines.items()),
    )


def _variant(field: Field, axes: Sequence[str]) -> str:
    return " ".join(f"{axis}={field.row.params[axis]}" for axis in axes)


def _with_ratios(line: Sequence[Sequence[Field]]) -> tuple[tuple[Field, ...], ...]:
    first = next((field for fields in line for field in fields if field.passed and field.tok_s), None)
    return tuple(
        tuple(
            Field(row=field.row, tok_s=field.tok_s, ratio=ratio(first.tok_s, field.tok_s, higher_is_better=True))
            if first is not None and field.passed and field is not first
            else field
            for field in fields
        )
        for fields in line
    )


def render(directories: Sequence[Path], axes: Sequence[str], form: str) -> str:
    """Return the tables as ``table``, ``md`` or ``csv``."""
    return "\n".join(_text(found, form) for found in variants(directories, axes))


def _text(found: Variants, form: str) -> str:
    header = [*found.down, *found.columns]
    body = [[*key, *("; ".join(map(str, fields)) or UNSEEN for fields in line)] for key, line in found.lines]
    if form == "csv":
        return _csv([["scenario", *header], *([found.scenario, *cells] for cells in body)])
    if form == "md":
        body = [[escape(text) for text in cells] for cells in body]
    table = tabulate(body, headers=header, tablefmt="github" if form == "md" else "simple", disable_numparse=True)
    same = ", ".join(f"{axis}={value}" for axis, value in found.same.items())
    return f"{found.scenario} ({same})\n\n{table}\n" if same else f"{found.scenario}\n\n{table}\n"


def _csv(lines: Iterable[Sequence[str]]) -> str:
    import csv
    import io

    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()
