"""The pages of docs/scenarios: a part that a person writes, and a part that is made from the scenario's own statements.

``make docs`` renews the made part and leaves the rest alone; a scenario without a page gets one to be filled in. What
is made does not depend on the machine: expectations are those of a laptop without a GPU that has the pinned packages.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from harness.errors import UsageError
from harness.plan import Cell, plan
from harness.spec import Environment, Scenario
from scenarios.registry import OURS

BEGIN: Final = "<!-- made by `make docs` from the scenario; do not edit below -->"
SECTIONS: Final = ("Symptom", "Mechanism", "See it in your own system", "Fix")
"""What a person writes."""
FOLDER: Final = Path("docs/scenarios")


def reference_environment() -> Environment:
    """Return the machine that the pages speak of: x86-64 with AVX-512, no GPU, the packages that `make` installs."""
    lock = resources.files("scenarios").joinpath("locks/cpu-stack.txt").read_text()
    packages = dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", lock, re.MULTILINE))
    return Environment(
        python="3.11",
        system="Linux",
        kernel="6.18",
        architecture="x86_64",
        cores=2,
        memory_mib=24 * 1024,
        cpu_flags=frozenset({"avx512f"}),
        packages=packages | {"torch": "2.13.0"},
    )


def title(scenario: Scenario) -> str:
    """Return the first line of a scenario's page."""
    return f"# {scenario.name}: {scenario.title}"


def made_part(scenario: Scenario) -> str:
    """Return what is made from the scenario's statements: how to run it, axes, cells, references."""
    cells = plan([scenario], reference_environment())
    suites = {scenario.cell_id(row.params): row.suites for row in scenario.rows}
    lines = [
        BEGIN,
        "",
        "## Run it",
        "",
        "```",
        f"crashcart run {scenario.name}",
        f"crashcart run {scenario.name} --repeat 10   # rates, with intervals",
        "```",
        "",
        "## Axes",
        "",
        "The first value is the default.",
        "",
        *_table(("axis", "values", "what it is"), [_axis(scenario, axis.name) for axis in scenario.axes]),
        "",
        "## Cells",
        "",
        "Expected on a machine without a GPU, where that can run the cell; written down before the first run.",
        "",
        *_table(("cell", "kind", "expected", "because", "suites"), [_cell(cell, suites[cell.id]) for cell in cells]),
        "",
        "## References",
        "",
        *(f"- [{one.name}]({one.url})" for one in scenario.references),
        "",
    ]
    return "\n".join(lines)


def new_page(scenario: Scenario) -> str:
    """Return a page to be filled in; the mechanism begins as the scenario's module tells it."""
    module = inspect.getmodule(scenario.oracle)
    told = inspect.cleandoc(module.__doc__ or "") if module is not None else ""
    sections = [f"## {name}\n\n{told if name == 'Mechanism' else ''}".rstrip() for name in SECTIONS]
    return "\n\n".join([title(scenario), *sections, made_part(scenario)])


def renewed(page: str, scenario: Scenario) -> str:
    """Return a page with its first line and its made part as the scenario states them now.

    Raises:
        UsageError: If the page has lost the line where the made part begins.
    """
    written, begin, _ = page.partition(BEGIN)
    if not begin:
        msg = f"the page of {scenario.name} has no line {BEGIN!r}"
        raise UsageError(msg, hint="put it back where the made part is to begin, then run `make docs`")
    _, _, body = written.partition("\n")
    return f"{title(scenario)}\n{body}{made_part(scenario)}"


def empty_sections(page: str) -> list[str]:
    """Return the names of the sections that a person has still to write."""
    written, _, _ = page.partition(BEGIN)
    found = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n?)*)", written, re.MULTILINE))
    return [name for name in SECTIONS if not found.get(name, "").strip()]


def index(scenarios: Sequence[Scenario]) -> str:
    """Return the page that lists all others."""
    rows = []
    for scenario in scenarios:
        cells = plan([scenario], reference_environment())
        kinds = ", ".join(sorted({cell.kind.value for cell in cells}))
        laptop = sum("laptop" in row.suites for row in scenario.rows)
        link = f"[{scenario.name}]({scenario.name}.md)"
        rows.append((link, scenario.title, kinds, f"{len(scenario.rows)}, {laptop} in `laptop`"))
    head = "# Scenarios\n\nMade by `make docs`. `crashcart list NAME` shows the same, with what your machine can run.\n"
    return "\n".join([head, *_table(("scenario", "what happens", "kinds", "cells"), rows), ""])


def write(folder: Path, scenarios: Sequence[Scenario]) -> list[str]:
    """Renew all pages in a folder and return what is left to a person.

    Raises:
        UsageError: If a page has lost its marker.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left = []
    for scenario in scenarios:
        path = folder / f"{scenario.name}.md"
        page = renewed(path.read_text(), scenario) if path.exists() else new_page(scenario)
        path.write_text(page)
        left += [f"{path}: write the section {name!r}" for name in empty_sections(page)]
    (folder / "README.md").write_text(index(scenarios))
    return left


def _axis(scenario: Scenario, name: str) -> tuple[str, str, str]:
    axis = scenario.axis(name)
    if axis is None:
        msg = f"no axis {name}"
        raise KeyError(msg)
    more = f"; any release of {axis.package}" if axis.package else ""
    return f"`{axis.name}`", ", ".join(f"`{value}`" for value in axis.values) + more, axis.doc


def _cell(cell: Cell, suites: frozenset[str]) -> tuple[str, ...]:
    expected = f"{cell.expected.value}: {cell.expected_signature}" if cell.expected_signature and cell.expected else ""
    expected = expected or (cell.expected.value if cell.expected else "nothing declared")
    why = cell.expected_reason + (f" (without: {cell.untestable})" if cell.untestable else "")
    name = cell.id[len(cell.scenario) + 1 : -1].replace(",", " ") + (" (control)" if cell.control_of else "")
    return name, cell.kind.value, expected, why, ", ".join(sorted(suites))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def main() -> None:
    """Renew the pages below the current folder."""
    left = write(FOLDER, OURS)
    sys.stderr.writelines(f"{line}\n" for line in left)
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
