"""The page: whole, offline, traceable, and not to be tricked by what programs print."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.record import EVENTS, RESULTS
from reports.load import load_rows
from reports.page import Page
from tests.unit.reports import sample

VOID = {"meta", "link", "input", "br", "wbr", "path", "circle", "use", "rect", "line", "polyline"}


class Reader(HTMLParser):
    """Collects ids, links, and each piece of text with the nearest source that stands around it."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.texts: list[tuple[str, str, list[str]]] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        href = found.get("href") or ""
        self.links += [href[1:]] if href.startswith("#") else []
        self.outside += [value for name, value in attrs if name in {"src", "href"} and value and "//" in value]
        if tag not in VOID:
            self.stack.append((tag, found))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.stack[-1][0] == tag, f"{tag} closes {self.stack[-1]}"
            self.stack.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_data(self, data: str) -> None:
        source = ""
        for _, attrs in self.stack:
            source = next((f"{n}={attrs[n]}" for n in ("data-e", "data-r", "data-src") if n in attrs), source)
        self.texts.append((data, source, [tag for tag, _ in self.stack]))


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    """Return the sample's page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reports.judged.oracles", lambda: {"sample": sample.oracle})
        return Page(run).render()


@pytest.fixture(scope="module")
def read(html: str) -> Reader:
    """Return the sample's page, read."""
    reader = Reader()
    reader.feed(html)
    assert not reader.stack
    return reader


def test_every_row_is_there_whatever_became_of_it(html: str, run: Path) -> None:
    for one in load_rows(run):
        assert html.count(f'aria-label="{one.cell}"') == 1
    for word in ("untestable", "never started", "injected", "needs a GPU", "control of"):
        assert word in html


def test_every_link_inside_the_page_has_a_target(read: Reader) -> None:
    assert len(read.ids) == len(set(read.ids))
    assert set(read.links) <= {*read.ids, ""}


def test_nothing_is_loaded_from_outside(read: Reader, html: str) -> None:
    assert read.outside == []
    assert "default-src 'none'" in html


def test_text_of_programs_stays_text(html: str) -> None:
    assert "alert(1)</script>" not in html
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in html
    assert html.count("<script>") == 1


def test_every_number_names_where_it_comes_from(read: Reader, run: Path) -> None:
    """Each text with a digit stands inside an element with a source, and each source exists."""
    lines, rows = ((run / name).read_bytes().count(b"\n") for name in (EVENTS, RESULTS))
    skipped = {"style", "script", "title", "head"}
    for text, source, tags in read.texts:
        if not re.search(r"\d", text) or skipped & set(tags):
            continue
        assert source, f"{text!r} in {tags[-3:]}"
        name, _, value = source.partition("=")
        if name == "data-e":
            assert 1 <= int(value) <= lines
        elif name == "data-r":
            assert 1 <= int(value) <= rows
        else:
            assert (run / value.partition(":")[0]).is_file(), value


def test_a_time_on_the_page_is_the_time_of_its_line(read: Reader, run: Path) -> None:
    events = [json.loads(line) for line in (run / EVENTS).read_text().splitlines()]
    starts: dict[tuple[str, int], int] = {
        (event["cell"], event["attempt"]): event["t_ns"] for event in events if event["event"] == "attempt_started"
    }
    checked = 0
    for text, source, tags in read.texts:
        if tags[-1:] != ["time"]:
            continue
        event = events[int(source.partition("=")[2]) - 1]
        at_ns = event.get("at_ns", event["t_ns"])
        start = starts.get((event["cell"], event["attempt"]), event["t_ns"])
        assert text == f"+{(at_ns - start) / 1e9:.3f} s"
        checked += 1
    assert checked > 20


def test_requested_and_effective_stand_side_by_side(html: str) -> None:
    assert "not read back" in html
    assert re.search(r"<th scope=\"row\">vllm</th><td>-</td><td>0.32.0</td><td>seen</td>", html)


def test_attempts_of_a_repeated_cell_have_their_own_verdicts(html: str) -> None:
    verdicts = re.findall(rf'id="{sample.FLAKY.folder}-\d".*?</h4>', html, re.DOTALL)
    assert [("reproduced" in one, "absent" in one) for one in verdicts] == [(True, False), (False, True), (True, False)]


def test_the_first_error_of_a_long_output_is_shown_with_its_lines(html: str) -> None:
    assert "around the first error" in html
    assert re.search(r"stderr:1-\d+", html)
    assert "\x1b" not in html


def test_without_room_a_cell_keeps_its_row_and_says_how_to_get_more(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.page.BUDGET", 30_000)
    page = Page(run).render()
    assert "Its timeline is not on this page" in page
    assert page.count('<tr data-cell="') == len(sample.CELLS)
    monkeypatch.setattr("reports.page.BRIEF_BUDGET", 0)
    page = Page(run).render()
    reader = Reader()
    reader.feed(page)
    assert set(reader.links) <= {*reader.ids, ""}
    assert "have no section here" in page


def test_named_cells_are_whole(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.page.BUDGET", 0)
    page = Page(run).render([sample.CRASH.id])
    assert page.count('<svg class="tl"') == 1


def test_merged_stacks_are_drawn_if_somebody_merged_them(tmp_path: Path) -> None:
    directory = sample.record(tmp_path / "run", cells=(sample.CRASH,))
    nodes = [
        {"id": 0, "parent": None, "function": "main", "present": {"worker": "0-2"}, "count": 3},
        {
            "id": 1,
            "parent": 0,
            "function": "wait",
            "present": {"worker": "0-1"},
            "missing": {"worker": "2"},
            "count": 2,
        },
        {"id": 2, "parent": 0, "function": "<step>", "file": "/x/b.py", "present": {"worker": "2"}, "count": 1},
    ]
    suspect = {"who": "worker 2", "reasons": ["it is the only one in <step>"]}
    tree = {"schema": 1, "processes": 3, "nodes": nodes, "suspects": [suspect]}
    path = directory / "cells" / sample.CRASH.folder / "1" / "stacks" / "merged.json"
    path.write_text(json.dumps(tree))
    page = Page(directory).render()
    assert "&lt;step&gt; (b.py)" in page
    assert "missing: worker 2" in page
    assert "stands out: worker 2" in page
    assert 'style="left:66.67%;width:33.33%;top:36px"' in page


def test_a_cut_record_is_told_and_said_so(tmp_path: Path) -> None:
    directory = sample.record(tmp_path / "run")
    data = (directory / EVENTS).read_bytes()
    (directory / EVENTS).write_bytes(data[: len(data) // 2])
    page = Page(directory).render()
    assert "stops before its end" in page
    (directory / EVENTS).unlink()
    assert "stops before its end" in Page(directory).render()
