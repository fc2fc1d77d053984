"""Every fact of a story names its line, and what went wrong stands in the order of the kernel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.record import EVENTS
from reports.log import Log
from reports.series import read_series
from reports.story import Story, tell
from reports.timeline import draw
from tests.unit.reports import sample


@pytest.fixture
def story(run: Path) -> Story:
    """Return the story of the crash."""
    told = tell(sample.CRASH.id, 1, sample.CRASH.params, Log(run).read(sample.CRASH.id, 1))
    assert told is not None
    return told


def test_each_fact_names_the_line_that_it_comes_from(run: Path, story: Story) -> None:
    lines = [json.loads(line) for line in (run / EVENTS).read_text().splitlines()]
    for lane in story.lanes:
        assert lines[lane.born_line - 1]["event"] == "process_born"
        assert lines[lane.born_line - 1]["key"]["pid"] == lane.pid
        assert lane.died_line is not None
        assert lines[lane.died_line - 1]["event"] == "process_died"
    for phase in story.phases:
        assert lines[phase.start_line - 1]["phase"] == phase.name
    assert lines[story.started_line - 1]["event"] == "attempt_started"


def test_the_first_cause_is_the_earliest_thing_that_went_wrong(story: Story) -> None:
    """The fault comes first; the death is before the new parent, although its line is after it."""
    assert [(moment.what, round(moment.t_s, 1)) for moment in story.incidents] == [
        ("fault", 2.9), ("signal death", 3.0), ("reparented", 3.1), ("fault confirmed", 3.2), ("phase failed", 4.4),
        ("error", 4.5), ("suspected", 4.9), ("left behind", 6.2),
    ]  # fmt: skip
    assert "SIGKILL, by fault:kill_api [pidfd]" in story.incidents[1].text


def test_an_end_by_our_own_ladder_is_no_incident(story: Story) -> None:
    assert not [moment for moment in story.incidents if "SIGTERM" in moment.text]


def test_a_helper_that_failed_is_drawn_apart_and_blamed_for_nothing(story: Story) -> None:
    assert [lane.pid for lane in story.lanes if lane.helper] == [sample.HELPER.pid]
    assert not [moment for moment in story.incidents if moment.key == sample.HELPER]


def test_processes_stand_below_their_parents(story: Story) -> None:
    assert [(lane.pid, lane.depth) for lane in story.lanes] == [(100, 0), (101, 1), (102, 2), (103, 3)]


def test_an_open_phase_stays_open(tmp_path: Path) -> None:
    """A record that was cut off is told as far as it goes."""
    directory = sample.record(tmp_path / "run", cells=(sample.CRASH,))
    lines = (directory / EVENTS).read_bytes().splitlines(keepends=True)
    (directory / EVENTS).write_bytes(b"".join(lines[:8]) + lines[8][:30])
    log = Log(directory)
    told = tell(sample.CRASH.id, 1, {}, log.read(sample.CRASH.id, 1))
    assert told is not None
    assert (log.unreadable, log.ended, told.ended_line) == (1, None, None)
    assert [(phase.name, phase.end_s, phase.state) for phase in told.phases] == [("server_start", None, "open")]
    assert all(lane.died_line is None for lane in told.lanes)


def test_nothing_recorded_is_no_story(run: Path) -> None:
    assert tell(sample.NEVER.id, 1, {}, Log(run).read(sample.NEVER.id, 1)) is None


def test_a_missing_log_is_an_empty_one(tmp_path: Path) -> None:
    assert (Log(tmp_path).lines, Log(tmp_path).cells) == (0, ())


def test_every_mark_of_a_timeline_is_inside_the_picture(run: Path, story: Story) -> None:
    recorded = Log(run).read(sample.CRASH.id, 1)
    picture = draw(story, read_series(run, "", recorded, story.attempt.started_ns))
    places = [mark.x for track in picture.tracks for mark in track.marks]
    places += [bar.x for track in picture.tracks for bar in track.bars]
    assert places
    assert all(0 <= float(place) <= 100 for place in places)
    labels = [track.label for track in picture.tracks]
    assert labels[:3] == ["phases", "tok/s, highest 563.7", "supervisor and program"]
    assert labels[-1] == "short-lived helpers × 1"
    assert all(track.y < picture.height for track in picture.tracks)


def test_gpu_samples_are_read_where_they_lie(tmp_path: Path) -> None:
    folder = tmp_path / "cells" / "c" / "1"
    folder.mkdir(parents=True)
    (folder / "gpu.jsonl").write_text('{"t_ns":2000000000,"gpu":0,"used_mib":10}\ntorn\n')
    (series,) = read_series(tmp_path, "cells/c/1", [], 1_000_000_000)
    assert (series.name, [(point.t_s, point.value) for point in series.points]) == ("GPU 0 MiB", [(1.0, 10)])
    assert series.points[0].source == "cells/c/1/gpu.jsonl:1"
