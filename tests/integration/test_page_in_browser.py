"""The page in a real browser: loads clean, filters, opens what links name, and is usable by keyboard and on a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.page import Page
from tests.browser import Seen, missing, opened
from tests.unit.reports import sample

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "a browser is there")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sample's page."""
    directory = sample.record(tmp_path_factory.mktemp("browser") / "run")
    path = directory / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reports.judged.oracles", lambda: {"sample": sample.oracle})
        path.write_text(Page(directory).render(), encoding="utf-8")
    return path


def clean(seen: Seen) -> bool:
    """Whether the console was silent and nothing but the file was asked for."""
    return not seen.console and all(url.startswith("file:") for url in seen.requests) and len(seen.requests) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_loads_clean_and_fits(page: Path, width: int, scheme: str) -> None:
    """No console message, no outside request, and nothing sticks out at the side, unfolded too."""
    with opened(page, width=width, scheme="dark" if scheme == "dark" else "light") as seen:
        seen.page.click("#open")
        for summary in seen.page.query_selector_all(".attempt details > summary"):
            summary.evaluate("one => { one.parentElement.open = true; }")
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        assert clean(seen), (seen.console, seen.requests)
        assert seen.load_s < 2


def test_it_filters_and_remembers_the_filter(page: Path) -> None:
    rows = ".cells tbody tr:visible"
    with opened(page) as seen:
        assert len(seen.page.query_selector_all(rows)) == len(sample.CELLS)
        seen.page.select_option("#f-expected", "no")
        assert len(seen.page.query_selector_all(rows)) == 2
        assert seen.page.inner_text("#shown") == f"2 of {len(sample.CELLS)} cells shown"
        seen.page.fill("#q", "what=wrong")
        assert len(seen.page.query_selector_all(rows)) == 1
        assert len(seen.page.query_selector_all("section.cell:visible")) == 1
        link = seen.page.evaluate("location.hash")
        seen.page.click("button[type=reset]")
        seen.page.wait_for_selector(f"#{sample.CONTROL.folder}", state="visible")
        assert clean(seen), seen.console
    with opened(page, fragment=link) as seen:
        assert len(seen.page.query_selector_all(rows)) == 1


def test_a_link_opens_the_timeline_that_it_names(page: Path) -> None:
    name = f"{sample.CRASH.folder}-1"
    with opened(page, fragment=f"#{name}") as seen:
        assert seen.page.is_visible(f"#{name} svg.tl")
        title = seen.page.text_content(f"#{name} use.m-signal title")
        assert title is not None
        assert "SIGKILL" in title
        assert seen.page.is_hidden(f"#{sample.CONTROL.folder} .body")
        seen.page.click(f"a.tile[href='#{sample.CONTROL.folder}']")
        seen.page.wait_for_selector(f"#{sample.CONTROL.folder} svg.tl", state="visible")
        assert clean(seen), seen.console


def test_a_number_says_its_line_when_it_is_pointed_at(page: Path) -> None:
    with opened(page, fragment=f"#{sample.CRASH.folder}-1") as seen:
        time = seen.page.locator(f"#{sample.CRASH.folder}-1 time").first
        line = time.get_attribute("data-e")
        time.hover()
        assert time.get_attribute("title") == f"events.jsonl line {line}"
        time.click()
        assert seen.page.inner_text("#said") == f"events.jsonl line {line}"


def test_the_keyboard_is_enough(page: Path) -> None:
    """Skip link, then a cell unfolded by Enter alone."""
    with opened(page) as seen:
        seen.page.keyboard.press("Tab")
        assert seen.page.evaluate("document.activeElement.className") == "skip"
        seen.page.focus(f"#{sample.CRASH.folder} summary")
        seen.page.keyboard.press("Enter")
        assert seen.page.is_visible(f"#{sample.CRASH.folder} svg.tl")
        for landmark in ("main", "nav[aria-label]", "header", "footer", "form[role=search]", "[role=status]"):
            assert seen.page.query_selector(landmark), landmark
        assert seen.page.query_selector_all("svg.tl:not([aria-label])") == []


def test_a_hostile_log_runs_nothing(page: Path) -> None:
    with opened(page) as seen:
        dialogs: list[str] = []
        seen.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        seen.page.click("#open")
        assert dialogs == []


def test_it_can_be_printed(page: Path) -> None:
    with opened(page, fragment=f"#{sample.CRASH.folder}-1") as seen:
        seen.page.emulate_media(media="print")
        assert seen.page.is_hidden("nav")
        assert seen.page.is_visible(f"#{sample.CRASH.folder}-1 svg.tl")
        assert len(seen.page.pdf()) > 10_000
