"""A comparison of two runs as a terminal table, Markdown, CSV or JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from harness.judge import Row
from reports.compare import Comparison, Difference, Group, Pair, Ratio
from reports.markdown import ISSUE, escape

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: Final = ("change", "cell", "kind", "A", "B", "rate B - A", "wall s B / A", "tok/s B / A")
FACTS: Final = 40
NOTES: Final = (
    "Wall time: below 1 is faster in B. tok/s: above 1 is more in B. Intervals are 95%; figures are compared only "
    "between attempts with the same verdict, and never averaged over cells."
)


def frame(comparison: Comparison) -> pd.DataFrame:
    """Return one line per cell, flips first; every field is a text."""
    import pandas as pd

    return pd.DataFrame([_texts(pair) for pair in comparison.pairs], columns=list(COLUMNS), dtype=object)


def to_text(comparison: Comparison) -> str:
    """Return the comparison for a terminal."""
    from tabulate import tabulate

    body = tabulate(frame(comparison), headers="keys", tablefmt="simple", showindex=False, disable_numparse=True)
    facts = [f"  {name}: {a[:60]} | {b[:60]}" for name, a, b in comparison.differing_facts()[:FACTS]]
    return "\n".join(
        [_title(comparison), "", "different in A | B:", *facts, "", body, "", _counts(comparison), NOTES, ""]
    )


def to_markdown(comparison: Comparison, limit: int = ISSUE) -> str:
    """Return Markdown of at most `limit` bytes; if rows do not fit, the last ones, which changed least, are counted."""
    facts = [f"| {escape(name)} | {escape(a[:80])} | {escape(b[:80])} |" for name, a, b in comparison.differing_facts()]
    head = [f"**{_title(comparison)}**", "", _counts(comparison), ""]
    machine = [
        "<details><summary>Machines and versions: what differs</summary>",
        "",
        "| fact | A | B |",
        "|---|---|---|",
    ]
    lines = frame(comparison).map(escape).to_markdown(index=False, tablefmt="github", disable_numparse=True).split("\n")
    tail = ["", NOTES, "", *machine, *facts[:FACTS], "", "</details>", ""]
    for shown in range(len(lines), 1, -max(1, len(lines) // 50)):
        left = len(lines) - shown
        note = [f"\n{left} more rows do not fit here; crashcart compare --format csv has all."] if left else []
        text = "\n".join([*head, *lines[:shown], *note, *tail])
        if len(text.encode()) <= limit:
            return text
    return "\n".join([*head, *tail])[:limit]


def to_csv(comparison: Comparison) -> str:
    """Return CSV with the same columns as the table."""
    text: str = frame(comparison).to_csv(index=False, lineterminator="\n")
    return text


def to_json(comparison: Comparison) -> str:
    """Return one JSON object a line, with the rows of both sides."""
    return "".join(msgspec.json.encode(_plain(pair)).decode() + "\n" for pair in comparison.pairs)


PRINTERS: Final[dict[str, Callable[[Comparison], str]]] = {
    "table": to_text,
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
}


def _title(comparison: Comparison) -> str:
    a, b = comparison.a.manifest, comparison.b.manifest
    return f"A {a.run} (crashcart {a.crashcart}) against B {b.run} (crashcart {b.crashcart})"


def _counts(comparison: Comparison) -> str:
    counts = Counter(pair.group for pair in comparison.pairs)
    said = ", ".join(f"{counts[group]} {group.value}" for group in Group if counts[group])
    return f"{len(comparison.pairs)} cells: {said or 'none'}"


def _texts(pair: Pair) -> tuple[str, ...]:
    row = pair.b or pair.a
    kinds = dict.fromkeys(side.kind.value for side in (pair.a, pair.b) if side is not None)
    control = " (control)" if row is not None and row.control_of else ""
    return (
        pair.group.value,
        pair.cell + control,
        " / ".join(kinds),
        _verdict(pair.a),
        _verdict(pair.b),
        _or_dash(pair.rate),
        _or_dash(pair.wall),
        _or_dash(pair.tokens),
    )


def _verdict(row: Row | None) -> str:
    if row is None:
        return "missing"
    rate = f" {row.reproduced}/{row.attempts}" if row.attempts > 1 else ""
    interval = f" [{row.rate.low:.2f}, {row.rate.high:.2f}]" if row.rate and row.attempts > 1 else ""
    unexpected = " ✗" if row.as_expected is False else ""
    signature = f" ({row.signature})" if row.signature else ""
    return f"{row.verdict.value}{rate}{interval}{unexpected}{signature}"


def _or_dash(figure: Ratio | Difference | None) -> str:
    return "-" if figure is None else str(figure)


def _plain(pair: Pair) -> dict[str, Any]:
    figures = {"rate": pair.rate, "wall": pair.wall, "tokens": pair.tokens}
    plain = {name: msgspec.to_builtins(figure) for name, figure in figures.items()}
    for name in ("wall", "tokens"):
        figure = figures[name]
        if isinstance(figure, Ratio):
            plain[name]["direction"] = figure.direction
    return {"cell": pair.cell, "change": pair.group.value, "a": pair.a, "b": pair.b} | plain
