"""What a night came to, as JSON, Markdown and a page without scripts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

import msgspec
from tabulate import tabulate

from harness.history.view import state_of, when
from harness.nightly.bisecting import Search
from harness.nightly.news import Finding, Kind

STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .7rem; text-align: left; border-bottom: 1px solid #8884; }
"""
COLUMNS: Final = ("cell", "verdict", "state", "since", "news", "speed")
ENDS: Final = {0: "all as expected, nothing new that is bad", 1: "something new or not as expected", 2: "no verdict"}


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """A cell tonight."""

    track: str
    cell: str
    verdict: str
    signature: str | None
    as_expected: bool | None
    state: str
    since: str | None
    since_run: str | None
    flaky: bool
    news: tuple[Kind, ...]
    speed: str | None
    reason: str
    evidence: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A night; the notification hook gets it on its standard input."""

    schema: int = 1
    nightly: str
    night: str
    machine: str
    versions: dict[str, str]
    exit_code: int
    quiet: bool
    """Whether there is nothing that was not told before."""
    tracks: tuple[Track, ...]
    searches: tuple[Search, ...] = ()
    runs: tuple[str, ...] = ()
    bundles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def track_of(finding: Finding) -> Track:
    """Return the line of a finding."""
    newest, since = finding.stands.newest, finding.stands.since
    return Track(
        track=finding.track,
        cell=newest.cell,
        verdict=newest.verdict.value,
        signature=newest.signature,
        as_expected=newest.as_expected,
        state=state_of(finding.stands),
        since=when(since.at) if since else None,
        since_run=since.run if since else None,
        flaky=finding.stands.flaky,
        news=finding.news,
        speed=str(finding.speed) if finding.speed else None,
        reason=newest.reason,
        evidence=newest.path,
    )


def told(summary: Summary) -> list[str]:
    """Return the news in sentences, the worst first."""
    order = list(Kind)
    pairs = sorted(
        ((kind, track) for track in summary.tracks for kind in track.news), key=lambda pair: order.index(pair[0])
    )
    lines = []
    for kind, track in pairs:
        why = track.speed if kind is Kind.SLOWER else track.signature or track.reason
        lines.append(f"{kind.value}: {track.track}" + (f": {why}" if why else ""))
    return lines


def table(tracks: Iterable[Track]) -> list[tuple[str, ...]]:
    """Return a row of texts per cell, those with news first, in the order of `COLUMNS`; none is left out."""
    return [
        (
            track.track,
            track.verdict + (" ✗" if track.as_expected is False else ""),
            track.state,
            track.since or "-",
            ", ".join(track.news) or "-",
            track.speed or "-",
        )
        for track in sorted(tracks, key=lambda track: not track.news)
    ]


def headline(summary: Summary) -> str:
    """Return the night in a line."""
    floating = ", ".join(f"{package} {version}" for package, version in summary.versions.items())
    news = f"{sum(len(track.news) for track in summary.tracks)} news" if not summary.quiet else "nothing new"
    return (
        f"{summary.nightly}, night {summary.night}{f' with {floating}' if floating else ''}: "
        f"{len(summary.tracks)} cells, {news}; exit code {summary.exit_code} ({ENDS[summary.exit_code]})"
    )


def text(summary: Summary) -> str:
    """Return what is printed."""
    parts = [headline(summary)]
    parts += [f"  {line}" for line in told(summary)]
    parts += [f"  {line}" for line in _found(summary.searches)]
    parts += [f"  note: {note}" for note in summary.notes]
    return "\n".join([*parts, "", tabulate(table(summary.tracks), headers=COLUMNS, disable_numparse=True)])


def markdown(summary: Summary) -> str:
    """Return it for a pull request, a step summary or a chat."""
    rows = [[cell.replace("|", r"\|") for cell in row] for row in table(summary.tracks)]
    parts = [f"## {headline(summary)}", *_bullets("News", told(summary))]
    parts += _bullets("What made the difference", _found(summary.searches))
    parts += _bullets("Notes", summary.notes)
    parts += ["### Cells", tabulate(rows, headers=COLUMNS, tablefmt="pipe", disable_numparse=True)]
    parts += _bullets("Evidence", [f"`{path}`" for path in (*summary.runs, *summary.bundles)])
    return "\n\n".join(parts) + "\n"


def page(summary: Summary, links: Sequence[tuple[str, str]]) -> str:
    """Return one HTML file; ``links`` are (address, text) of the reports of runs and bisections."""
    items = [*told(summary), *_found(summary.searches), *summary.notes]
    head = "".join(f"<th>{escape(column)}</th>" for column in COLUMNS)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table(summary.tracks)
    )
    listed = "".join(f"<li>{escape(item)}</li>" for item in items) or "<li>nothing new</li>"
    linked = "".join(f'<li><a href="{escape(address)}">{escape(text)}</a></li>' for address, text in links)
    body = f"<h1>{escape(headline(summary))}</h1><ul>{listed}</ul>\n<table><tr>{head}</tr>\n{rows}</table>"
    title = f"<title>{escape(summary.nightly)} {escape(summary.night)}</title>"
    start = f'<!doctype html><html lang="en"><meta charset="utf-8">{title}<style>{STYLE}</style>'
    return f"{start}\n{body}\n<h2>Reports</h2><ul>{linked}</ul>\n</html>\n"


def _bullets(title: str, lines: Sequence[str]) -> list[str]:
    return [f"### {title}", "\n".join(f"- {line}" for line in lines)] if lines else []


def _found(searches: Sequence[Search]) -> list[str]:
    lines = []
    for one in searches:
        changed = ", ".join(f"{name} {one.good[name]} → {one.bad[name]}" for name in one.good)
        again = f" Again: {one.again}" if one.again and not one.named else ""
        lines.append(f"{one.track} ({changed or 'nothing recorded differs'}): {one.sentence}{again}")
    return lines
