"""What the documents promise: links that lead somewhere, and a table of modules that is the real one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.contracts.test_packaging import PACKAGES, ROOT, ROWS

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"!?\[[^\]\n]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
MENTIONED = re.compile(r"(?<![\w/.])docs/[\w./-]+\.\w+")


def links(path: Path) -> Iterator[str]:
    """Yield the targets of a document's links that stay in this project."""
    text = CODE.sub("", FENCE.sub("", path.read_text()))
    for match in LINK.finditer(text):
        target = match[1] or match[2]
        if not ELSEWHERE.match(target):
            yield target


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings: words in lower case, a number for each repetition."""
    found: dict[str, int] = {}
    for heading in HEADING.findall(FENCE.sub("", path.read_text())):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {slug if not number else f"{slug}-{number}" for slug, last in found.items() for number in range(last + 1)}


def broken(path: Path) -> list[str]:
    """Return the links of a document that lead nowhere."""
    wrong = []
    for link in links(path):
        name, _, anchor = unquote(link).partition("#")
        target = path.parent / name if name else path
        if not target.exists():
            wrong.append(f"{link}: there is no such file")
        elif anchor and anchor not in anchors(target):
            wrong.append(f"{link}: {target.name} has no such heading")
    return wrong


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    assert broken(path) == []
    missing = {name for name in MENTIONED.findall(path.read_text()) if not (ROOT / name).exists()}
    assert missing == set(), "files that are named in the text"


def test_a_broken_link_would_be_seen(tmp_path: Path) -> None:
    """File, heading, repeated heading, picture, code and other people's pages."""
    (tmp_path / "there.md").write_text("# A `b`: c, d\n## Twice\n## Twice\n```\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md#a-b-c-d) [b](there.md#twice-1) [c](https://example.org/x#y) `[d](gone.md)` [e](#here)\n# Here\n"
        "[f](there.md#twice-2) [g](there.md#no-heading) ![h](gone.png) [i](#gone)\n\n[j]: gone.md\n"
    )
    assert [line.partition(":")[0] for line in broken(page)] == [
        "there.md#twice-2", "there.md#no-heading", "gone.png", "#gone", "gone.md"
    ]  # fmt: skip


def test_the_table_of_modules_is_the_one_that_is_enforced() -> None:
    """CONTRIBUTING.md names the rows of the packaging test, in their order."""
    cells = re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    said = [{_whole(name) for name in re.findall(r"`([\w.]+)`", text)} for _, text in cells]
    assert [int(number) for number, _ in cells] == list(range(1, len(ROWS) + 1))
    assert said == [set(row) - {"harness.__main__"} for row in ROWS]


def _whole(name: str) -> str:
    return name if name.partition(".")[0] in PACKAGES else f"harness.{name}"


def test_the_readme_leads_to_every_how_to() -> None:
    linked = set(links(ROOT / "README.md"))
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "how-to").glob("*.md")} <= linked
