"""Trace-event JSON of a run, for Perfetto and other viewers of that format.

Each attempt is a process of the trace, and each process of its tree a thread there (its pid as the thread id): its
life and its titles are complete events, phases and requests are asynchronous ones, as they may overlap; faults,
captures and errors are instants, and figures over time are counters. Times are microseconds since the run began.
Written as it is read, one attempt in memory at a time. Format: "Trace Event Format" of the Chromium project.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from harness.record import read_manifest
from reports.judged import cells_by_id
from reports.log import Log
from reports.series import read_series
from reports.story import Lane, Moment, Phase, Story, short_name, tell

SUPERVISOR: Final = 0
"""Thread id of what belongs to no process of the tree."""
_encoder: Final = msgspec.json.Encoder()

Entry = dict[str, Any]


def write_trace(directory: Path, out: IO[bytes], log: Log | None = None) -> int:
    """Write the trace of a run and return how many events it has.

    Raises:
        RecordError: If the directory holds no run.
    """
    manifest = read_manifest(directory)
    other = {"run": manifest.run, "crashcart": manifest.crashcart, "argv": " ".join(manifest.argv)}
    out.write(b'{"displayTimeUnit":"ms","otherData":' + _encoder.encode(other) + b',"traceEvents":[')
    count = 0
    for entry in entries(directory, log if log is not None else Log(directory)):
        out.write((b",\n" if count else b"\n") + _encoder.encode(entry))
        count += 1
    out.write(b"\n]}\n")
    return count


def entries(directory: Path, log: Log) -> Iterator[Entry]:
    """Yield the trace events of a run, attempt after attempt."""
    cells = cells_by_id(read_manifest(directory))
    zero_ns: int | None = None
    pid = 0
    for name in log.cells:
        cell = cells.get(name)
        for number in log.attempts_of(name):
            recorded = log.read(name, number)
            story = tell(name, number, cell.params if cell else {}, recorded)
            if story is None:
                continue
            pid += 1
            started_ns = story.attempt.started_ns
            zero_ns = started_ns if zero_ns is None else zero_ns
            evidence = f"cells/{cell.folder}/{number}" if cell else ""
            series = read_series(directory, evidence, recorded, started_ns)
            clock = _Clock(pid, max(0.0, (started_ns - zero_ns) / 1e3))
            yield from _attempt(clock, f"{name} #{number}", story)
            for one in series:
                for point in one.points:
                    args = {one.name: point.value}
                    yield clock.entry("C", one.name, point.t_s, SUPERVISOR, args=args)


class _Clock:
    """Makes trace events of one attempt."""

    def __init__(self, pid: int, offset_us: float) -> None:
        self.pid = pid
        self._offset_us = offset_us
        self._ids = 0

    def entry(self, ph: str, name: str, t_s: float, tid: int, **more: Any) -> Entry:  # noqa: ANN401 - fields of JSON
        """Return an event at seconds since the start of the attempt."""
        ts = round(self._offset_us + t_s * 1e6, 3)
        return {"ph": ph, "name": name, "pid": self.pid, "tid": tid, "ts": ts, **more}

    def meta(self, what: str, tid: int, /, **args: Any) -> Entry:  # noqa: ANN401 - fields of JSON
        """Return an event that names something."""
        return {"ph": "M", "name": what, "pid": self.pid, "tid": tid, "args": args}

    def new_id(self) -> str:
        """Return an id for a pair of asynchronous events."""
        self._ids += 1
        return f"{self.pid}.{self._ids}"


def _attempt(clock: _Clock, title: str, story: Story) -> Iterator[Entry]:
    yield clock.meta("process_name", SUPERVISOR, name=title)
    yield clock.meta("process_sort_index", SUPERVISOR, sort_index=clock.pid)
    yield clock.meta("thread_name", SUPERVISOR, name="supervisor and program")
    threads = _threads(story.lanes)
    for order, (lane, tid) in enumerate(zip(story.lanes, threads, strict=True), 1):
        yield clock.meta("thread_name", tid, name=short_name(lane))
        yield clock.meta("thread_sort_index", tid, sort_index=order)
        yield from _lane(clock, story, lane, tid)
    for phase in story.phases:
        yield from _phase(clock, story, phase)
    for moment in story.moments:
        yield _instant(clock, moment, SUPERVISOR, "p")


def _threads(lanes: Iterable[Lane]) -> list[int]:
    """Return a thread id for each process: its pid, unless an earlier process had the same one."""
    taken = {SUPERVISOR}
    threads = []
    for lane in lanes:
        tid = lane.pid
        while tid in taken:
            tid += 1 << 22  # above every pid of Linux
        taken.add(tid)
        threads.append(tid)
    return threads


def _lane(clock: _Clock, story: Story, lane: Lane, tid: int) -> Iterator[Entry]:
    end_s = lane.died_s if lane.died_s is not None else story.span_s
    status = lane.process.status
    args: Entry = {
        "pid": lane.pid,
        "title": lane.process.name,
        "role": lane.role,
        "ended": lane.how,
        "status_source": status.source if status else "",
        "ended_by": lane.process.ended_by,
        "orphaned_s": round(lane.process.orphaned_s, 3),
        "line": lane.born_line,
    }
    if lane.died_line is not None:
        args["died_line"] = lane.died_line
    yield _complete(clock, short_name(lane), lane.born_s, end_s, tid, cat="process", args=args)
    titles = [(lane.born_s, lane.process.names[0], lane.born_line)]
    titles += [(moment.t_s, moment.text, moment.line) for moment in lane.titles]
    if len(titles) > 1:
        stops = [*(t_s for t_s, _, _ in titles[1:]), end_s]
        for (t_s, title, line), stop_s in zip(titles, stops, strict=True):
            yield _complete(clock, title[:80], t_s, max(t_s, min(stop_s, end_s)), tid, cat="exec", args={"line": line})
    for moment in lane.moments:
        yield _instant(clock, moment, tid, "t")


def _complete(clock: _Clock, name: str, start_s: float, end_s: float, tid: int, **more: Any) -> Entry:  # noqa: ANN401
    """Return a complete event whose end is computed from its rounded beginning, so that nested ones stay nested."""
    first = clock.entry("X", name, start_s, tid, **more)
    last = clock.entry("X", name, max(start_s, end_s), tid)
    first["dur"] = round(last["ts"] - first["ts"], 3)
    return first


def _phase(clock: _Clock, story: Story, phase: Phase) -> Iterator[Entry]:
    cat = "request" if phase.name.startswith("request") else "phase"
    end_s = phase.end_s if phase.end_s is not None else story.span_s
    shared = {"cat": cat, "id": clock.new_id()}
    args = {"state": phase.state, "said_by": phase.pid, "line": phase.start_line}
    yield clock.entry("b", phase.name, phase.start_s, SUPERVISOR, args=args, **shared)
    yield clock.entry("e", phase.name, max(phase.start_s, end_s), SUPERVISOR, **shared)


def _instant(clock: _Clock, moment: Moment, tid: int, scope: str) -> Entry:
    args = {"text": moment.text, "line": moment.line}
    return clock.entry("i", moment.what, moment.t_s, tid, s=scope, cat="record", args=args)
