"""Markdown of a run that fits where people paste it: a GitHub issue or a step summary, with details folded.

When it does not fit, it gets shorter in steps: without details; with fewer columns; at last with the rows that were not
as expected first, and a line that says how many of which verdict are not shown, and where they stand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from tabulate import tabulate

from harness.judge import Row
from reports.formats import COLUMNS, cells_of, rerun, to_be_told

ISSUE: Final = 65_000
"""Characters of an issue or a comment on GitHub, with some left for the text around it (the limit is 65,536)."""
STEP_SUMMARY: Final = 1_000_000
"""Bytes of a step summary (the limit is 1 MiB)."""
SHORT: Final = tuple(COLUMNS.index(name) for name in ("scenario", "cell", "kind", "expected", "verdict", "signature"))
"""Columns that are kept when space is short."""


def to_markdown(rows: Sequence[Row], limit: int = ISSUE) -> str:
    """Return the Markdown of rows in at most `limit` bytes."""
    forms: tuple[Callable[[], str], ...] = (
        lambda: _heading(rows) + table(rows) + _details(rows),
        lambda: _heading(rows) + table(rows),
        lambda: _heading(rows) + table(rows, SHORT),
    )
    for form, columns in zip(forms, (range(len(COLUMNS)), range(len(COLUMNS)), SHORT), strict=True):
        if _fitting(rows, columns, limit) < len(rows):
            continue
        text = form()
        if len(text.encode()) <= limit:
            return text
    return _cut(rows, limit)


def table(rows: Sequence[Row], columns: Sequence[int] = range(len(COLUMNS))) -> str:
    """Return rows as a table."""
    body = []
    for row in rows:
        texts = cells_of(row)
        body.append([escape(texts[column]) for column in columns])
    return (
        tabulate(body, headers=[COLUMNS[column] for column in columns], tablefmt="github", disable_numparse=True) + "\n"
    )


def escape(text: str) -> str:
    """Return text that cannot end a field of a table, open markup, or mention people."""
    for sign, written in (
        ("\\", "\\\\"),
        ("|", "\\|"),
        ("<", "&lt;"),
        ("@", "@\N{ZERO WIDTH NON-JOINER}"),
        ("\n", " "),
    ):
        text = text.replace(sign, written)
    return text


def _heading(rows: Sequence[Row]) -> str:
    counts = Counter(row.as_expected for row in rows)
    run = ", ".join(dict.fromkeys(row.run for row in rows))
    return (
        f"**crashcart {run}**: {len(rows)} rows, {counts[True]} as expected, {counts[False]} not as expected, "
        f"{counts[None]} without comparison\n\n"
    )


def _details(rows: Sequence[Row]) -> str:
    """Return what stands behind each row that people will ask about, folded."""
    asked = [row for row in rows if to_be_told(row)]
    return "".join("\n" + _detail(row) for row in asked)


def _detail(row: Row) -> str:
    lines = [f"- {escape(reason)}" for reason in row.reasons]
    lines += [
        f"- {escape(str(f['finding']))}: {escape(str(f.get('name', f.get('class', ''))))[:160]}" for f in row.findings
    ]
    lines += [f"- evidence: `{row.evidence}`"] if row.evidence else []
    body = "\n".join(lines)
    title = f"{escape(row.cell)}: {row.verdict.value}"
    return f"<details><summary>{title}</summary>\n\n{body}\n\n```\n{rerun(row)}\n```\n\n</details>\n"


def _fitting(rows: Sequence[Row], columns: Sequence[int], limit: int) -> int:
    """Return how many rows can fit at the very most: padding only adds to what their texts take."""
    for count, row in enumerate(rows):
        texts = cells_of(row)
        limit -= sum(len(texts[column]) + 3 for column in columns)
        if limit < 0:
            return count
    return len(rows)


def _cut(rows: Sequence[Row], limit: int) -> str:
    """Return as many rows as fit, the ones not as expected first, and say what is not shown."""
    order = sorted(rows, key=lambda row: (row.as_expected is not False, row.as_expected is True))
    low, high = 0, _fitting(order, SHORT, limit)
    while low < high:
        middle = (low + high + 1) // 2
        if len(_shown(rows, order, middle).encode()) <= limit:
            low = middle
        else:
            high = middle - 1
    return _shown(rows, order, low)


def _shown(rows: Sequence[Row], order: Sequence[Row], count: int) -> str:
    left = Counter(row.verdict.value for row in order[count:])
    said = ", ".join(f"{number} {verdict}" for verdict, number in left.items())
    note = f"\n{len(order) - count} rows do not fit here ({said}); all of them stand in results.csv and report.html.\n"
    return _heading(rows) + table(order[:count], SHORT) + note
