"""What is news, and what only was: literal nights in, literal news out."""

from __future__ import annotations

import msgspec
import pytest

from harness.history.entries import Entry, standing
from harness.nightly.bisecting import suspects, vector_path
from harness.nightly.news import Finding, Kind, alarming, finding
from harness.nightly.planning import Planned
from harness.outcome import Kind as CellKind
from harness.plan import Cell
from tests.unit.history.entries import entries, speeds


def found(every: list[Entry]) -> Finding:
    return finding("toy[]", standing(every), every)


@pytest.mark.parametrize(
    ("letters", "versions", "news"),
    [
        ("P", "1", []),
        ("PP", "12", []),
        ("F", "1", [Kind.UNEXPECTED]),
        ("FF", "12", []),
        ("PF", "12", [Kind.NEWLY_FAILING]),
        ("PFF", "122", []),
        ("PFG", "122", [Kind.OTHER_SIGNATURE]),
        ("PFP", "123", [Kind.NEWLY_FIXED]),
        ("PF", "11", [Kind.NEWLY_FAILING, Kind.FLAKY]),
        ("PFP", "111", []),  # known to be flaky
        ("Pu", "11", [Kind.UNTESTED]),
        ("Puu", "111", []),
        ("PuF", "112", [Kind.NEWLY_FAILING]),
        ("n", "1", []),
    ],
)
def test_news_is_told_once(letters: str, versions: str, news: list[Kind]) -> None:
    one = found(entries(letters, versions))
    assert list(one.news) == news
    alarms = {Kind.NEWLY_FAILING, Kind.OTHER_SIGNATURE, Kind.UNEXPECTED}
    assert alarming([one]) is bool(alarms & set(news))


def test_a_declared_failure_at_first_sight_is_no_news() -> None:
    declared = msgspec.structs.replace(entries("F")[0], as_expected=True)
    assert found([declared]).news == ()
    contradicting = msgspec.structs.replace(entries("P")[0], as_expected=False)
    assert found([contradicting]).news == (Kind.UNEXPECTED,)


def test_slower_is_an_alarm() -> None:
    one = found(speeds([100.0, 101.0, 99.0, 100.0, 100.5, 80.0]))
    assert one.news == (Kind.SLOWER,)
    assert alarming([one])


@pytest.mark.parametrize(
    ("letters", "versions", "pair"),
    [("PFF", "122", (0, 1)), ("PnF", "122", (0, 2)), ("FF", "12", None), ("PF", "11", None), ("FP", "12", None)],
)
def test_what_is_searched_lies_between_the_last_pass_and_the_first_failure(
    letters: str, versions: str, pair: tuple[int, int] | None
) -> None:
    every = entries(letters, versions)
    assert found(every).to_bisect == (None if pair is None else (every[pair[0]], every[pair[1]]))


def test_only_what_a_run_can_put_in_place_is_suspected() -> None:
    """verl and Ray are axes of the scenario; a kernel is not, and what only one side has cannot be gone back to."""
    cell = Cell(scenario="actor_gc", id="actor_gc[]", params={}, kind=CellKind.NATIVE)
    plan = Planned(cell=cell, track="actor_gc[]", target="actor_gc")
    passed, failed = entries("PF", "12")
    passed = msgspec.structs.replace(passed, versions={"verl": "0.4.1", "ray": "2.59.0", "kernel": "6.1"})
    failed = msgspec.structs.replace(failed, versions={"verl": "0.3.0", "ray": "2.60.0", "kernel": "6.2"})
    differs = {name: (good, bad) for name, (_, good, bad) in suspects(plan, passed, failed).items()}
    assert differs == {"verl": ("0.4.1", "0.3.0"), "ray": ("2.59.0", "2.60.0")}
    assert suspects(plan, passed, msgspec.structs.replace(failed, versions={"verl": "0.4.1"})) == {}


def test_a_path_over_several_packages_changes_one_at_a_time() -> None:
    ends = {"verl": ("0.4.1", "0.3.0"), "ray": ("2.58.0", "2.60.0")}
    assert vector_path(ends, {"verl": ["0.4.0", "0.9.1"], "ray": ["2.59.0", "2.40.0"]}) == [
        "verl==0.4.1 ray==2.58.0",
        "verl==0.4.0 ray==2.58.0",
        "verl==0.3.0 ray==2.58.0",
        "verl==0.3.0 ray==2.59.0",
        "verl==0.3.0 ray==2.60.0",
    ]
