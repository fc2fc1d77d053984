"""How a track stands: turns, flakiness, first failures; literal entries in, literal words out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.history.entries import Change, differing, first_failures, standing
from harness.history.retention import protected
from tests.unit.history.entries import DAY, entries


@pytest.mark.parametrize(
    ("letters", "change", "failing"),
    [
        ("P", Change.FIRST, False),
        ("F", Change.FIRST, True),
        ("PP", Change.PASSING, False),
        ("PF", Change.NEWLY_FAILING, True),
        ("PO", Change.NEWLY_FAILING, True),
        ("PFF", Change.STILL_FAILING, True),
        ("PFG", Change.OTHER_SIGNATURE, True),
        ("PFO", Change.OTHER_SIGNATURE, True),
        ("PFP", Change.NEWLY_FIXED, False),
        ("PnF", Change.NEWLY_FAILING, True),
        ("Pu", Change.NOT_TESTED, False),
        ("Fnn", Change.NOT_TESTED, True),
        ("nu", Change.NOT_TESTED, False),
        ("FuF", Change.STILL_FAILING, True),
    ],
)
def test_the_newest_entry_is_compared_with_the_last_that_said_something(
    letters: str, change: Change, failing: bool
) -> None:
    stands = standing(entries(letters))
    assert (stands.change, stands.failing) == (change, failing)


@pytest.mark.parametrize(
    ("letters", "since", "turned_from"),
    [("PPFF", 2, 1), ("FPnP", 1, 0), ("PP", 0, None), ("FnPnFnn", 4, 2), ("nn", None, None), ("nF", 1, None)],
)
def test_since_when_and_what_was_before(letters: str, since: int | None, turned_from: int | None) -> None:
    every = entries(letters)
    stands = standing(every)
    assert stands.since == (None if since is None else every[since])
    assert stands.turned_from == (None if turned_from is None else every[turned_from])


@pytest.mark.parametrize(
    ("letters", "versions", "flaky"),
    [
        ("PF", "11", True),
        ("PF", "12", False),
        ("PFPF", "1212", False),
        ("PFPFPPPP", "11111111", True),
        ("PFPFPPPPP", "111111111", False),  # five in a row agree
        ("PPPPP", "11111", False),
        ("PnF", "111", True),
        ("FG", "11", False),
    ],
)
def test_flaky_is_a_pass_and_a_failure_at_the_same_versions(letters: str, versions: str, flaky: bool) -> None:
    assert standing(entries(letters, versions)).flaky is flaky


def test_what_was_flaky_two_weeks_ago_is_forgotten() -> None:
    assert standing(entries("PFF", step_s=7 * DAY)).flaky
    assert not standing(entries("PFF", step_s=8 * DAY)).flaky


def test_first_failures_are_told_with_what_they_follow() -> None:
    every = entries("nFFnPPOFP")
    assert [(before and before.run, after.run) for before, after in first_failures(every)] == [
        (None, "run001"), ("run005", "run006"), ("run006", "run007"),
    ]  # fmt: skip


@given(st.text("PFGOnu", min_size=1, max_size=40), st.randoms())
def test_no_deletion_ever_takes_a_first_failure(letters: str, chance: object) -> None:
    """Delete any of what is not protected, again and again: the first failures stay the same ones."""
    import random

    assert isinstance(chance, random.Random)
    left = entries(letters)
    firsts = [after.run for _, after in first_failures(left)]
    for _ in range(4):
        kept = protected(left)
        assert set(firsts) <= kept
        left = [entry for entry in left if entry.run in kept or chance.random() < 0.5]
        assert [after.run for _, after in first_failures(left)] == firsts


def test_differing_versions_are_named_also_where_one_side_has_none() -> None:
    a, b = entries("PF", "12")
    assert differing(a, b) == {"ray": ("1", "2")}
    assert differing(a, a) == {}
