"""A night in words: every cell keeps its row, news come first, and what programs say stays text."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from harness.history.entries import standing
from harness.nightly.bisecting import Search
from harness.nightly.news import Kind, finding
from harness.nightly.summary import Summary, headline, markdown, page, text, told, track_of
from tests.unit.history.entries import entries


def summary(*letters: str) -> Summary:
    """Return the summary of a night whose cells have these stories."""
    tracks = []
    for number, story in enumerate(letters):
        every = entries(story, "".join(str(index) for index in range(len(story))))
        tracks.append(track_of(finding(f"toy[{number}]", standing(every), every)))
    return Summary(
        nightly="gpu", night="night1", machine="m", versions={"verl": "0.4.1"}, exit_code=1, quiet=False,
        tracks=tuple(tracks),
    )  # fmt: skip


def test_news_come_first_and_no_cell_is_left_out() -> None:
    said = summary("PP", "FP", "PF", "PP")
    assert told(said) == ["newly failing: toy[2]: SIGSEGV", "newly fixed: toy[1]"]
    lines = [line for line in text(said).splitlines() if line.startswith("toy[")]
    assert [line[:6] for line in lines] == ["toy[1]", "toy[2]", "toy[0]", "toy[3]"]
    assert headline(said).endswith("4 cells, 2 news; exit code 1 (something new or not as expected)")
    assert markdown(said).count("\n| toy[") == 4


def test_a_search_without_an_answer_says_how_to_go_on() -> None:
    search = Search(track="toy[0]", good={"verl": "1"}, bad={"verl": "2"}, sentence="no culprit", again="crashcart x")
    said = msgspec.structs.replace(summary("PF"), searches=(search,))
    assert "toy[0] (verl 1 → 2): no culprit Again: crashcart x" in text(said)
    assert "Again" not in text(msgspec.structs.replace(said, searches=(msgspec.structs.replace(search, named=True),)))


@given(st.text(min_size=1))
def test_what_programs_say_is_escaped(words: str) -> None:
    said = summary("PF")
    track = msgspec.structs.replace(said.tracks[0], signature=f"<script>{words}", news=(Kind.NEWLY_FAILING,))
    assert "<script>" not in page(msgspec.structs.replace(said, tracks=(track,)), [("a&b", "<i>")])


def test_a_summary_survives_its_file() -> None:
    said = summary("PF", "PP")
    assert msgspec.json.decode(msgspec.json.encode(said), type=Summary) == said
