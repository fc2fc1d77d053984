"""The configuration: every mistake gets a line with its place, and what floats follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.nightly.config import floating
from harness.nightly.load import MistakesError, load
from harness.nightly.planning import planned, tracks
from harness.probes.machine import read_environment
from scenarios.actor_gc import SCENARIO

GOOD = '[[run]]\nscenario = "actor_gc"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "verl.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("", ["run is missing"]),
        ("run = []", ["run: must be tables, written [[run]]"]),
        ("[run]\nsuite = 'laptop'", ["run: must be tables, written [[run]]"]),
        ("[[run]]", ["run 1: needs a suite or a scenario, and not both"]),
        ("[[run]]\nsuite = 'smoke'\nscenario = 'actor_gc'", ["run 1: needs a suite or a scenario, and not both"]),
        ("[[run]]\nsuite = 'moon'", ["run 1: no suite 'moon'; suites: smoke"]),
        ("[[run]]\nsuite = 'smoke'\nparams = { gc = 'none' }", ["run 1: params: go with a scenario"]),
        ("[[run]]\nsuite = 'smoke'\nrepeat = 0", ["run 1: repeat: must be at least 1"]),
        ("[[run]]\nscenario = 'nosuch'", ["run 1: no scenario 'nosuch'; scenarios: actor_gc"]),
        ("[[run]]\nscenario = 'nosuch:X'", ["run 1: no scenario 'nosuch:X'"]),
        (GOOD + "params = { colour = 'red' }", ["run 1: params.colour: actor_gc has no such axis; its axes: verl"]),
        (GOOD + "params = { gc = ['none', 'odd'] }", ["run 1: params.gc: no value 'odd'; its values: collect, none"]),
        (GOOD + "params = { gc = 3 }", ["run 1: params: expected `str | array`, got `int`"]),
        (GOOD + "[versions]\nverl = 'latest'", ["versions.verl: 'latest' is neither a release nor one of newest"]),
        (GOOD + "[versions]\nvllm = '0.9'", ["versions.vllm: no scenario of a [[run]] has a version axis for vllm"]),
        (GOOD + "[bisect]\nhours = 0", ["bisect: hours and runs must be above 0"]),
        (GOOD + "[bisect]\ncandidates.verl = ['x']", ["bisect.candidates.verl: 'x' is no release"]),
        (GOOD + "[keep]", ["keep.days is missing"]),
        (GOOD + "[keep]\ndays = 0", ["keep.days: must be at least 1"]),
        (GOOD + "[notify]\ncommand = 'mail'", ["notify.command: expected `array`, got `str`"]),
        (GOOD + "[notify]\ncommand = []", ["notify.command: is empty"]),
        (
            GOOD + "[bundle]\nvendor = 'amd'",
            ["bundle.vendor: no such key here; there are for", "bundle.for is missing"],
        ),
        ("keep = 3\n" + GOOD, ["keep: must be a table, written [keep]"]),
        ("nothing", ["is no TOML: "]),
        (
            "prepare = 'make'\n[[run]]\nsuit = 'x'\n[[run]]\nrepeat = '2'",
            [
                "run 1: suit: no such key here; there are suite, scenario, params, repeat, optional",
                "run 2: repeat: expected `int`, got `str`",
                "prepare: expected `array`, got `str`",
            ],
        ),
    ],
)
def test_every_mistake_has_a_line(text: str, mistakes: list[str], tmp_path: Path) -> None:
    with pytest.raises(MistakesError) as raised:
        load(write(tmp_path, text))
    assert len(raised.value.mistakes) == len(mistakes), raised.value.mistakes
    for said, expected in zip(raised.value.mistakes, mistakes, strict=True):
        assert said.startswith(expected)
        assert "\n" not in said


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        load(tmp_path / "nowhere.toml")


def test_name_and_state_come_from_the_file_where_nothing_is_said(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD))
    assert (config.name, config.state) == ("verl", "verl")
    config = load(write(tmp_path, 'name = "gpu"\n' + GOOD))
    assert (config.name, config.state) == ("gpu", "gpu")


def test_what_is_not_named_floats_and_makes_a_track(tmp_path: Path) -> None:
    text = GOOD + "params = { keep_parent = ['false', 'true'] }\n"
    text += GOOD + "params = { verl = '0.4.0', keep_parent = 'false' }\n[versions]\nverl = '0.9.1'"
    config = load(write(tmp_path, text))
    assert list(floating(config, config.run[0], SCENARIO)) == ["verl"]
    assert floating(config, config.run[1], SCENARIO) == {}
    cells = planned(config, {"verl": "0.9.1"}, read_environment())
    assert [(one.cell.id, one.track) for one in cells] == [
        ("actor_gc[verl=0.9.1,keep_parent=false]", "actor_gc[verl=*,keep_parent=false]"),
        ("actor_gc[verl=0.9.1,keep_parent=true]", "actor_gc[verl=*,keep_parent=true]"),
        ("actor_gc[verl=0.4.0,keep_parent=false]", "actor_gc[verl=0.4.0,keep_parent=false]"),
    ]
    assert len(tracks(cells)) == 2
    assert all(one.cell.needed for one in cells)


def test_a_suite_is_planned_as_it_stands_and_a_cell_only_once(tmp_path: Path) -> None:
    text = "[[run]]\nsuite = 'smoke'\noptional = true\n[[run]]\nsuite = 'smoke'\nrepeat = 3"
    cells = planned(load(write(tmp_path, text)), {}, read_environment())
    assert len({one.cell.id for one in cells}) == len(cells) > 0
    assert {(one.repeat, one.cell.needed) for one in cells} == {(1, False)}
    assert all(one.track == one.cell.id for one in cells)
