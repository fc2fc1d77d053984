"""Where each mark of a timeline stands: percents of the span across, pixels down. Markup is the template's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import floor, log10
from typing import Final

from reports.series import Series
from reports.story import Lane, Moment, Phase, Story, short_name

LANE_PX: Final = 34
TOP_PX: Final = 22
TICKS: Final = 5
MARKS: Final = {
    "renamed": "m-name", "reparented": "m-orphan", "phase failed": "m-bad", "error": "m-bad", "observed": "m-dot",
    "nonce": "m-dot", "suspected": "m-hang", "capture": "m-eye", "fault": "m-fault", "fault confirmed": "m-fault",
    "fault failed": "m-fault", "fault undone": "m-fault", "stop step": "m-stop", "shared memory": "m-shm",
    "left behind": "m-left", "gate": "m-dot", "attempt ended": "m-bad", "note": "m-dot", "signal death": "m-signal",
    "exit": "m-exit", "stopped": "m-stop",
}  # fmt: skip
"""The symbol for each kind of moment; symbols differ in shape, not only in colour."""
LEGEND: Final = (
    ("m-signal", "death by a signal"), ("m-exit", "exit status other than zero"), ("m-fault", "fault performed by us"),
    ("m-orphan", "lost its parent"), ("m-hang", "hang suspected"), ("m-eye", "stacks captured"),
    ("m-stop", "ended by our stop ladder"), ("m-bad", "error or failed phase"), ("m-name", "exec or new title"),
    ("m-left", "left behind"), ("m-shm", "shared memory seen"), ("m-dot", "observation"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A symbol on a lane."""

    x: str
    symbol: str
    line: int
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A stretch of time on a lane; an open one has no end in the record."""

    x: str
    width: str
    label: str
    title: str
    line: int
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One row of the picture."""

    y: int
    indent: int
    label: str
    line: int
    bars: tuple[Bar, ...] = ()
    marks: tuple[Mark, ...] = ()
    curve: str = ""
    """Points of a curve over the whole width, in a box of 100 by 16."""
    source: str = ""
    """Where the values of the curve stand, if not in one line of ``events.jsonl``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The picture of an attempt."""

    height: int
    ticks: tuple[tuple[str, str], ...]
    tracks: tuple[Track, ...]


def draw(story: Story, series: Sequence[Series] = ()) -> Timeline:
    """Lay out phases, series, supervisor, processes and helpers of an attempt, from top to bottom."""
    tracks = [
        *_phases(story),
        *(_curve(story, one) for one in series),
        *_supervisor(story),
        *(_process(story, lane) for lane in story.lanes if not lane.helper),
        *_helpers(story),
    ]
    placed = tuple(replace(track, y=TOP_PX + number * LANE_PX) for number, track in enumerate(tracks))
    return Timeline(height=TOP_PX + len(placed) * LANE_PX + 4, ticks=_ticks(story.span_s), tracks=placed)


def percent(t_s: float, span_s: float) -> str:
    """Return a position or width as the text of a percentage, cut to the picture."""
    return f"{min(100.0, max(0.0, 100 * t_s / span_s)):.2f}".rstrip("0").rstrip(".")


def _ticks(span_s: float) -> tuple[tuple[str, str], ...]:
    """Return the positions and labels of round times."""
    raw = span_s / TICKS
    magnitude = 10.0 ** floor(log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw * 0.999)
    count = int(span_s / step)
    return tuple((percent(n * step, span_s), f"{n * step:g} s") for n in range(count + 1))


def _life(story: Story, lane: Lane) -> Bar:
    end_s = lane.died_s if lane.died_s is not None else story.span_s
    end = f"{lane.how} at +{lane.died_s:.3f} s (line {lane.died_line})" if lane.died_s is not None else "no end seen"
    return Bar(
        x=percent(lane.born_s, story.span_s),
        width=percent(max(end_s - lane.born_s, story.span_s / 400), story.span_s),
        label="",
        title=f"{short_name(lane)} {lane.pid}: +{lane.born_s:.3f} s to {end}",
        line=lane.born_line,
        style="life" if lane.process.orphaned_s < 1 else "life orphan",
    )


def _process(story: Story, lane: Lane) -> Track:
    return Track(
        y=0,
        indent=lane.depth,
        label=f"{short_name(lane)} · {lane.pid}",
        line=lane.born_line,
        bars=(_life(story, lane),),
        marks=(*_marks(story, lane.titles), *_marks(story, lane.moments), *_end(story, lane)),
    )


def _helpers(story: Story) -> Iterable[Track]:
    helpers = [lane for lane in story.lanes if lane.helper]
    if helpers:
        label = f"short-lived helpers × {len(helpers)}"
        bars = tuple(_life(story, lane) for lane in helpers)
        yield Track(y=0, indent=0, label=label, line=helpers[0].born_line, bars=bars)


def _supervisor(story: Story) -> Iterable[Track]:
    if story.moments:
        marks = tuple(_marks(story, story.moments))
        yield Track(y=0, indent=0, label="supervisor and program", line=story.started_line, marks=marks)


def _curve(story: Story, series: Series) -> Track:
    top = max(point.value for point in series.points) or 1.0
    points = " ".join(
        f"{percent(point.t_s, story.span_s)},{16 - 15 * max(0.0, point.value) / top:.1f}" for point in series.points
    )
    if len(series.points) == 1:  # a line of no length is not drawn
        first = series.points[0]
        points += (
            f" {percent(first.t_s + story.span_s / 200, story.span_s)},{16 - 15 * max(0.0, first.value) / top:.1f}"
        )
    label = f"{series.name}, highest {top:g}"
    return Track(y=0, indent=0, label=label, line=story.started_line, curve=points, source=series.points[0].source)


def _end(story: Story, lane: Lane) -> Iterable[Mark]:
    status = lane.process.status
    if lane.died_s is None or lane.died_line is None or status is None:
        return
    if lane.process.ended_by.startswith("stop:"):
        symbol = "m-stop"
    elif status.signal is not None:
        symbol = "m-signal"
    elif status.exit_code:
        symbol = "m-exit"
    else:
        return
    by = f", by {lane.process.ended_by}" if lane.process.ended_by else ""
    yield Mark(
        x=percent(lane.died_s, story.span_s),
        symbol=symbol,
        line=lane.died_line,
        title=f"+{lane.died_s:.3f} s {lane.how}{by} (source: {status.source})",
    )


def _marks(story: Story, moments: Sequence[Moment]) -> list[Mark]:
    return [
        Mark(
            x=percent(moment.t_s, story.span_s),
            symbol=MARKS.get(moment.what, "m-dot"),
            line=moment.line,
            title=f"+{moment.t_s:.3f} s {moment.what}: {moment.text[:90]}",
        )
        for moment in moments
    ]


def _phases(story: Story) -> Iterable[Track]:
    """Put phases on as few rows as they fit without overlap."""
    rows: list[tuple[float, list[Bar]]] = []
    for phase in story.phases:
        end_s = phase.end_s if phase.end_s is not None else story.span_s
        row = next((number for number, (free_s, _) in enumerate(rows) if free_s <= phase.start_s), len(rows))
        if row == len(rows):
            rows.append((0.0, []))
        rows[row] = (end_s, [*rows[row][1], _phase_bar(story, phase, end_s)])
    for number, (_, bars) in enumerate(rows, 1):
        label = "phases" if number == 1 else f"phases ({number})"
        yield Track(y=0, indent=0, label=label, line=bars[0].line, bars=tuple(bars))


def _phase_bar(story: Story, phase: Phase, end_s: float) -> Bar:
    ended = (
        f"{phase.state} at +{phase.end_s:.3f} s (line {phase.end_line})" if phase.end_s is not None else "never ended"
    )
    return Bar(
        x=percent(phase.start_s, story.span_s),
        width=percent(max(end_s - phase.start_s, story.span_s / 400), story.span_s),
        label=phase.name + {"failed": " ✗", "open": " …"}.get(phase.state, ""),
        title=f"phase {phase.name} (pid {phase.pid}): +{phase.start_s:.3f} s, {ended}",
        line=phase.start_line,
        style=f"phase {phase.state}",
    )
