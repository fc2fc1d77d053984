"""The comparison table of a run in the formats that people and programs read. No row is ever left out."""

from __future__ import annotations

import csv
import io
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import click
import msgspec
from rich.console import Console
from rich.table import Table

from harness.judge import CRASHES, NOT_UNDONE, PYTEST, WATCH, Row

COLUMNS: Final = (
    "scenario", "cell", "kind", "expected", "verdict", "signature", "died of", "left behind", "tok/s", "s",
)  # fmt: skip
STYLES: Final = {True: "green", False: "bold red", None: "yellow"}


def cells_of(row: Row) -> tuple[str, ...]:
    """Return the texts of a row, in the order of `COLUMNS`."""
    return (
        row.scenario,
        _point(row) + (" (control)" if row.control_of else ""),
        row.kind.value,
        row.expected.value if row.expected else "-",
        _verdict(row),
        row.signature or (row.reasons[0] if row.reasons and row.as_expected is not True else "-"),
        died_of(row),
        left_behind(row),
        f"{row.throughput['output_tok_s']:.0f}" if row.throughput and row.throughput.get("output_tok_s") else "-",
        f"{row.wall_s:.1f}",
    )


def _point(row: Row) -> str:
    """Return the parameters that the cell's id names, apart by spaces so that they break well."""
    return _inside(row).replace(",", " ")


def _inside(row: Row) -> str:
    return row.cell.removeprefix(f"{row.scenario}[").removesuffix("]")


def died_of(row: Row) -> str:
    """Return who died of which signal: crashes, and the victims of declared faults."""
    deaths = Counter(
        (death["role"] if death["role"] != "other" else _program(death["name"]), death["signal"], death["by"])
        for death in row.processes["signal_deaths"]
        if death["signal"] in CRASHES or death["by"] or death["role"] in {"api_server", "engine_core", "worker"}
    )
    return (
        ", ".join(
            f"{who} {signal}{' (fault)' if by.startswith('fault:') else ''}{f' ×{count}' if count > 1 else ''}"
            for (who, signal, by), count in deaths.items()
        )
        or "-"
    )


def _program(title: str) -> str:
    """Return a short name of a process that has no role: the module that is run, or its program without the folder."""
    first, *more = title.split() or ["?"]
    module = more[more.index("-m") + 1] if "-m" in more[:-1] else first
    return module.rpartition("/" if module == first else ".")[2][:24]


def left_behind(row: Row) -> str:
    """Return what outlived its parent or was found after the attempt."""
    orphans = Counter(orphan["role"] for orphan in row.processes["orphans"])
    things = Counter(left["what"] for left in row.processes["left_behind"])
    parts = [f"{count} orphaned {who}" if count > 1 else f"orphaned {who}" for who, count in orphans.items()]
    parts += [f"{count} {what}" for what, count in things.items()]
    return ", ".join(parts) or "-"


def _verdict(row: Row) -> str:
    rate = f" {row.reproduced}/{row.attempts}" if row.attempts > 1 else ""
    interval = f" [{row.rate.low:.2f}, {row.rate.high:.2f}]" if row.rate and row.attempts > 1 else ""
    sign = {True: "", False: " ✗", None: ""}[row.as_expected]
    return f"{row.verdict.value}{rate}{interval}{sign}"


def print_table(rows: Sequence[Row], directory: Path) -> None:
    """Print the table for a terminal, then where the evidence lies and how to run one row again."""
    console = Console(highlight=False, width=None if Console().is_terminal else 180)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in COLUMNS:
        justify: Literal["left", "right"] = "right" if name in {"tok/s", "s"} else "left"
        table.add_column(name, justify=justify, overflow="fold", min_width=40 if name == "cell" else None)
    before = ""
    for row in rows:
        scenario, *texts = cells_of(row)
        table.add_row(
            scenario if scenario != before else "",
            *(text.replace("[", r"\[") for text in texts),
            style=STYLES[row.as_expected],
        )
        before = scenario
    console.print(table)
    console.print(summary(rows, directory), markup=False)


def summary(rows: Sequence[Row], directory: Path) -> str:
    """Return the lines below the table."""
    counts = Counter(row.as_expected for row in rows)
    parts = [f"{counts[True]} as expected", f"{counts[False]} not as expected", f"{counts[None]} without expectation"]
    lines = ["", f"{counted(len(rows), 'row')}: {', '.join(part for part in parts if not part.startswith('0 '))}"]
    lines += [f"  {row.cell}: {row.verdict.value}: {'; '.join(row.reasons)}" for row in rows if to_be_told(row)]
    lines.append(f"evidence: {directory}/cells   again: crashcart report {directory}")
    if rows:
        shown = next((row for row in rows if row.as_expected is False), rows[0])
        lines.append(f"one row again: {rerun(shown)}")
    return "\n".join(lines)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def to_be_told(row: Row) -> bool:
    """Whether the reasons of a row belong below the table: not as expected, or a fault of ours is still there."""
    stays = any(finding["finding"] == NOT_UNDONE for finding in row.findings)
    return bool(row.reasons) and (row.as_expected is not True or stays)


def rerun(row: Row) -> str:
    """Return the command that runs one row again; which command was watched says ``run.json``."""
    if row.scenario == WATCH:
        return "crashcart watch -- COMMAND"
    if row.scenario == PYTEST:
        return f"pytest {shlex.quote(_inside(row))}"
    return f"crashcart run {row.scenario} " + " ".join(f"-p {name}={value}" for name, value in row.params.items())


def to_csv(rows: Sequence[Row]) -> str:
    """Return CSV with every flat field of the rows."""
    out = io.StringIO()
    fields = ["scenario", "cell", "kind", "control_of", "expected", "verdict", "as_expected", "signature", "attempts",
              "reproduced", "wall_s", "evidence"]  # fmt: skip
    writer = csv.DictWriter(out, [*fields, "reasons", "died_of", "left_behind", "output_tok_s"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        plain = msgspec.to_builtins(row)
        tokens = row.throughput.get("output_tok_s") if row.throughput else None
        writer.writerow(
            {field: plain[field] for field in fields}
            | {"reasons": "; ".join(row.reasons), "died_of": died_of(row), "left_behind": left_behind(row)}
            | {"output_tok_s": tokens}
        )
    return out.getvalue()


def to_json(rows: Sequence[Row]) -> str:
    """Return one JSON object a line."""
    return "".join(msgspec.json.encode(row).decode() + "\n" for row in rows)


PRINTERS: Final[dict[str, Callable[[Sequence[Row]], str]]] = {"csv": to_csv, "json": to_json}


def print_as(rows: Sequence[Row], directory: Path, form: str) -> None:
    """Print rows in one of the formats ``table``, ``csv``, ``json``."""
    if form == "table":
        print_table(rows, directory)
    else:
        click.echo(PRINTERS[form](rows), nl=False)
