"""Text and picture: bounded, complete where there is room, and honest about the rest."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stacks import Frame, Merged, ThreadStack, merge, suspects, svg, text
from tests.unit.stacks.recorded import process, python, stacks
from tests.unit.stacks.test_merge import thread_stacks


def wide(ranks: int, depth: int = 12) -> Merged:
    return merge(
        ThreadStack(process(rank + 1, rank=rank), python("main", *(f"f{rank % (level + 1)}" for level in range(depth))))
        for rank in range(ranks)
    )


def gloo() -> Merged:
    return merge(
        stack for rank in range(3) for stack in stacks(f"gloo{rank}.pystack.txt", process(10 + rank, rank=rank))
    )


@given(st.lists(thread_stacks, max_size=40), st.integers(50, 200))
def test_the_text_is_never_longer_than_allowed(given_stacks: list[ThreadStack], lines: int) -> None:
    merged = merge(given_stacks)
    assert text(merged, suspects(merged), lines=lines).count("\n") <= lines


@settings(max_examples=10)
@given(st.integers(1, 400), st.integers(1, 60))
def test_wide_and_deep_trees_fit(ranks: int, depth: int) -> None:
    merged = wide(ranks, depth)
    shown = text(merged, suspects(merged))
    assert shown.count("\n") <= 200
    assert max(map(len, shown.splitlines())) < 600


def test_a_real_hang_reads_like_this() -> None:
    merged = gloo()
    shown = text(merged, suspects(merged)).splitlines()
    assert shown[0] == "15 stacks of 3 processes by pystack, 3 classes of processes that look alike"
    assert (
        shown[2] == "suspect: trainer 2: not in allreduce, where trainer 0-1 wait; stands in prepare_batch (gloo.py:16)"
    )
    tree = "\n".join(shown)
    assert "- prepare_batch (gloo.py:16)  [trainer 2|0-1]" in tree
    assert "all_reduce (distributed_c10d.py:3252)" in tree
    assert tree.index("wrapper (c10d_logger.py:83)  [trainer 0-1|2]") < tree.index("- prepare_batch")
    assert "more branch" not in tree


def test_what_does_not_fit_is_said_and_the_suspect_is_kept() -> None:
    rows = [ThreadStack(process(1 + rank, rank=rank), python("main", "step", "f", "x")) for rank in range(400)]
    noise = [
        ThreadStack(process(1 + rank, rank=rank), python("pool", f"g{number}", "idle"))
        for rank in range(400)
        for number in range(300)
    ]
    odd = ThreadStack(process(900, rank=900), python("main", "stuck_here", "inner"))
    merged = merge([*rows, *noise, odd])
    shown = text(merged, suspects(merged))
    assert shown.count("\n") <= 200
    assert "stuck_here" in shown
    hidden = re.search(r"… (\d+) more branches \[trainer 0-399\|900\]", shown)
    assert hidden is not None
    assert len(set(re.findall(r"\bg\d+ ", shown))) + int(hidden[1]) == 300


def test_many_classes_are_counted() -> None:
    merged = merge(ThreadStack(process(1 + rank, rank=rank), python(f"f{rank}")) for rank in range(100))
    assert "… 70 more classes with 70 processes" in text(merged)


def test_what_the_tools_print_cannot_break_lines() -> None:
    merged = merge([ThreadStack(process(1), (Frame("evil\nname\r\x1b[31m", "a\nb.py"),))])
    shown = text(merged, suspects(merged))
    assert "evil name" in shown
    assert "\r" not in shown
    assert "\x1b" not in shown


def shapes(picture: str) -> list[ET.Element]:
    return [part for part in ET.fromstring(picture) if part.tag.endswith("}g")]  # noqa: S314 - our own


def test_the_picture_shows_each_frame_with_who_is_there() -> None:
    merged = gloo()
    picture = svg(merged, suspects(merged))
    found = shapes(picture)
    assert len(found) == len(merged.tree.parents) - 1
    titles = [part[0].text for part in found]
    assert "prepare_batch (gloo.py:16): trainer 2|0-1 (1 of 3)" in titles
    assert all(part.get("tabindex") == "0" and part.get("aria-label") == part[0].text for part in found)
    marked = {part[0].text.partition(" ")[0] for part in found if part.get("class") == "cc-suspect" and part[0].text}
    assert marked == {"prepare_batch", "time_sleep", "pysleep", "clock_nanosleep"}
    assert "<script" not in picture
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "")


def test_bars_lie_inside_their_parents_and_colours_follow_the_members() -> None:
    found = shapes(svg(gloo()))
    bars = [part[1] for part in found]
    assert all(
        float(bar.get("x", "")) >= 0 and float(bar.get("x", "")) + float(bar.get("width", "")) <= 1200.2 for bar in bars
    )
    colours: dict[str, set[str]] = {}
    for part in found:
        who = (part[0].text or "").rpartition(": ")[2]
        colours.setdefault(who, set()).add(part[1].get("fill", ""))
    assert all(len(some) == 1 for some in colours.values())
    assert len(set.union(*colours.values())) == len(colours)


@pytest.mark.parametrize("name", ["<b>&\"'", "a\x00b\x1b[1m", "\ud800", "]]>"])
def test_the_picture_is_well_formed_whatever_the_names(name: str) -> None:
    merged = merge([ThreadStack(process(1), (Frame(name, name),))])
    assert len(shapes(svg(merged, suspects(merged)))) == 1


def test_a_large_picture_is_bounded_and_says_so() -> None:
    picture = svg(merge(ThreadStack(process(1 + rank, rank=rank), python("main", f"f{rank}")) for rank in range(3000)))
    assert len(picture) < 3_000_000
    assert "frames too narrow to draw" in picture
