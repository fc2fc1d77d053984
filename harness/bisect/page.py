"""A bisection as one HTML file without scripts or foreign parts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from harness.bisect.decide import Observation
from harness.bisect.steps import Settings, View
from harness.bisect.summary import COLUMNS, VERSION_COLUMNS, Report, history_table, picture, version_table

STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .7rem; text-align: left; border-bottom: 1px solid #8884; }
.failed { background: #f443; } .passed { background: #4f43; } pre { font-size: 1.4rem; }
"""


def page(report: Report, settings: Settings | None, asked: str | None, log: Sequence[Observation]) -> str:
    """Return the page: the sentence, the posterior, the versions, and every run with a link to its record."""
    parts = [f"<h1>Bisection of {escape(report.scenario)}</h1>", f"<p>{escape(report.sentence)}</p>"]
    if settings is not None:
        ends = f"{settings.history.names[0]} … {settings.history.names[-1]}"
        parts += [
            f"<h2>Where the culprit may be</h2><p>{escape(ends)}</p>",
            f"<pre>{escape(picture(View.of(settings, log)))}</pre>",
            _table(VERSION_COLUMNS, version_table(settings, log)),
        ]
    parts += ["<h2>Every run</h2>", _runs(log, asked)]
    body = "\n".join(parts)
    title = f"<title>Bisection of {escape(report.scenario)}</title>"
    return f'<!doctype html><html lang="en"><meta charset="utf-8">{title}<style>{STYLE}</style>\n{body}\n</html>\n'


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"


def _runs(log: Sequence[Observation], asked: str | None) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in (*COLUMNS, "record"))
    lines = []
    for one, cells in zip(log, history_table(log, asked), strict=True):
        link = f'<a href="{escape(one.evidence)}">{escape(one.evidence)}</a>' if one.evidence else "-"
        texts = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f'<tr class="{escape(cells[4])}">{texts}<td>{link}</td></tr>')
    return f"<table><tr>{head}</tr>\n" + "\n".join(lines) + "</table>"
