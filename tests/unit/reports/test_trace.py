"""The trace keeps the rules of the Trace Event Format, so that viewers neither refuse nor misdraw it."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from harness.events import ProcessKey
from harness.record import EVENTS
from reports.trace import write_trace
from tests.unit.reports import sample

FIELDS = {"X": {"ts", "dur"}, "b": {"ts", "id", "cat"}, "e": {"ts", "id", "cat"}, "i": {"ts", "s"}, "C": {"ts", "args"},
          "M": {"args"}}  # fmt: skip


@pytest.fixture
def trace(run: Path) -> list[dict[str, Any]]:
    """Return the trace events of the sample."""
    out = io.BytesIO()
    count = write_trace(run, out)
    document = json.loads(out.getvalue())
    assert document["displayTimeUnit"] in {"ms", "ns"}
    assert len(document["traceEvents"]) == count
    events: list[dict[str, Any]] = document["traceEvents"]
    return events


def test_each_event_has_the_fields_of_its_phase(trace: list[dict[str, Any]]) -> None:
    for event in trace:
        assert FIELDS[event["ph"]] | {"name", "pid", "tid"} <= event.keys(), event
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert event.get("ts", 0) >= 0
        assert event.get("dur", 0) >= 0
        assert event.get("s", "t") in {"g", "p", "t"}


def test_metadata_names_every_process_and_thread(trace: list[dict[str, Any]]) -> None:
    names = {(e["name"], e["pid"], e["tid"]) for e in trace if e["ph"] == "M"}
    for event in trace:
        assert ("process_name", event["pid"], 0) in names
        assert ("thread_name", event["pid"], event["tid"]) in names
    known = {"process_name", "process_sort_index", "thread_name", "thread_sort_index"}
    assert {event["name"] for event in trace if event["ph"] == "M"} <= known


def test_asynchronous_events_are_paired(trace: list[dict[str, Any]]) -> None:
    open_: dict[tuple[str, str], float] = {}
    for event in trace:
        if event["ph"] == "b":
            assert (event["cat"], event["id"]) not in open_
            open_[event["cat"], event["id"]] = event["ts"]
        elif event["ph"] == "e":
            assert event["ts"] >= open_.pop((event["cat"], event["id"]))
    assert open_ == {}


def test_complete_events_of_a_thread_are_nested(trace: list[dict[str, Any]]) -> None:
    threads: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in trace:
        if event["ph"] == "X":
            threads[event["pid"], event["tid"]].append((event["ts"], -event["dur"]))
    for spans in threads.values():
        ends: list[float] = []
        for start, length in sorted(spans):
            while ends and ends[-1] <= start + 0.0005:
                ends.pop()
            assert not ends or start - length <= ends[-1] + 0.0005
            ends.append(start - length)


def test_counters_hold_numbers_only(trace: list[dict[str, Any]]) -> None:
    counters = [event for event in trace if event["ph"] == "C"]
    assert counters
    assert all(isinstance(value, int | float) for event in counters for value in event["args"].values())


def test_each_attempt_is_a_process_and_each_process_a_thread(trace: list[dict[str, Any]]) -> None:
    lives = {(e["name"], e["tid"]) for e in trace if e["ph"] == "X" and e["cat"] == "process" and e["pid"] == 1}
    assert {("engine_core", 102), ("api_server", 101)} <= lives
    titles = [e["args"]["name"] for e in trace if e["ph"] == "M" and e["name"] == "process_name"]
    assert f"{sample.FLAKY.id} #3" in titles


def test_a_pid_that_was_used_again_gets_a_thread_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = ProcessKey(sample.ROOT.pid, 99)
    story = [*sample.quiet()[:2], (0.5, sample.born(again, None, "later")), *sample.quiet()[2:]]
    monkeypatch.setitem(sample.STORIES, sample.CONTROL.id, [story])
    out = io.BytesIO()
    write_trace(sample.record(tmp_path / "run", cells=(sample.CONTROL,)), out)
    lives = [e for e in json.loads(out.getvalue())["traceEvents"] if e["ph"] == "X"]
    assert len({event["tid"] for event in lives}) == len(lives) == 2


def test_an_empty_log_is_an_empty_trace(tmp_path: Path) -> None:
    directory = sample.record(tmp_path / "run", cells=(sample.NEVER,))
    (directory / EVENTS).unlink()
    out = io.BytesIO()
    assert write_trace(directory, out) == 0
    assert json.loads(out.getvalue())["traceEvents"] == []
