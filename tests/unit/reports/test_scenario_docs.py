"""The pages of docs/scenarios: one for every scenario, written by a person, and made anew when the scenario changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.spec import Scenario
from reports.scenario_docs import (
    BEGIN,
    FOLDER,
    SECTIONS,
    empty_sections,
    index,
    made_part,
    new_page,
    renewed,
    title,
    write,
)
from scenarios.registry import OURS
from tests.toy import SCENARIO

PAGES = Path(__file__).resolve().parents[3] / FOLDER


@pytest.mark.parametrize("scenario", OURS, ids=lambda scenario: scenario.name)
def test_every_scenario_has_a_page_that_is_up_to_date(scenario: Scenario) -> None:
    """What is made agrees with the scenario, and what a person has to write is there."""
    path = PAGES / f"{scenario.name}.md"
    assert path.exists(), "run `make docs`, then write the page's own part"
    page = path.read_text()
    assert page == renewed(page, scenario), "run `make docs`"
    assert empty_sections(page) == []


def test_the_index_lists_every_scenario_and_there_is_no_page_without_one() -> None:
    assert (PAGES / "README.md").read_text() == index(OURS), "run `make docs`"
    assert {path.stem for path in PAGES.glob("*.md")} == {"README", *(scenario.name for scenario in OURS)}


def test_a_new_page_has_the_mechanism_of_the_module_and_asks_for_the_rest() -> None:
    page = new_page(SCENARIO)
    assert page.startswith("# toy: A program that behaves as it is told\n\n## Symptom\n")
    assert "A scenario around `tests.programs.behave`" in page
    assert empty_sections(page) == ["Symptom", "See it in your own system", "Fix"]


def test_what_a_person_wrote_survives_and_what_is_made_follows_the_scenario(tmp_path: Path) -> None:
    """A changed title, axis or expectation shows; the hand-written part is the same to the last letter."""
    assert len(write(tmp_path, [SCENARIO])) == len(SECTIONS) - 1
    path = tmp_path / "toy.md"
    page = path.read_text().replace("## Symptom\n", "## Symptom\n\nIt is odd | and <b>.\n")
    path.write_text(page)
    changed = dataclasses.replace(SCENARIO, title="Another title", rows=SCENARIO.rows[:1])
    assert renewed(page, SCENARIO) == page
    assert renewed(page, changed) != page
    assert len(write(tmp_path, [changed])) == len(SECTIONS) - 2
    after = path.read_text()
    assert after.startswith("# toy: Another title\n")
    assert "It is odd | and <b>." in after
    assert after.count(BEGIN) == 1
    assert after.endswith(made_part(changed))


def test_cells_show_kind_expectation_and_reason() -> None:
    """One line a cell; the control is marked, and so is what the reference machine lacks."""
    part = made_part(SCENARIO)
    assert "| behaviour=healthy (control) | injected | absent | by construction | full |" in part
    assert part.count("| injected |") == len(SCENARIO.rows)
    lacking = dataclasses.replace(SCENARIO, requires=lambda _, environment: f"gpus: {len(environment.gpus)}")
    assert "by construction (without: gpus: 0)" in made_part(lacking)


def test_a_page_without_its_marker_is_refused() -> None:
    """Nothing that a person wrote is overwritten by guesswork."""
    with pytest.raises(UsageError, match="toy has no line"):
        renewed(f"{title(SCENARIO)}\n\ntext\n", SCENARIO)
