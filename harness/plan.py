"""From scenarios and selections to an ordered list of cells with stable ids. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from harness.errors import UsageError
from harness.outcome import Kind, VerdictName
from harness.spec import SUITE_NAMES, Axis, Environment, Scenario, names_place

VERSION: Final = re.compile(r"installed|v?\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9.]+)?")
"""Well-formed version of a package (PEP 440, without epochs), or the word for what the environment has."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One point of a scenario's matrix, as it stands in ``run.json``."""

    scenario: str
    id: str
    params: dict[str, str]
    kind: Kind
    control_of: str | None = None
    expected: VerdictName | None = None
    expected_signature: str | None = None
    expected_reason: str = ""
    untestable: str | None = None
    """Why the cell cannot run here, where that is known before it is tried."""
    needed: bool = True
    """Whether the exit code minds that the cell is untestable here."""

    @property
    def folder(self) -> str:
        """Name of the cell's folder."""
        return cell_folder(self.id)


def cell_folder(cell: str) -> str:
    """Return a name for files of a cell: a readable slug and a hash of its id."""
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", cell).strip("-")[:60]
    return f"{slug}-{hashlib.sha256(cell.encode()).hexdigest()[:8]}"


def parse_selection(options: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Read ``AXIS=V1,V2`` options; the same axis may be given several times.

    Raises:
        UsageError: If an option is not of that form.
    """
    selection: dict[str, tuple[str, ...]] = {}
    for option in options:
        name, equals, values = option.partition("=")
        listed = tuple(value.strip() for value in values.split(","))
        if not equals or not name.isidentifier() or not all(listed):
            msg = f"-p {option!r} is not of the form AXIS=VALUE[,VALUE…]"
            raise UsageError(msg, hint="example: -p verl=0.3.0.post1,0.4.0")
        selection[name] = selection.get(name, ()) + listed
    return selection


def plan(
    scenarios: Sequence[Scenario],
    environment: Environment,
    *,
    suite: str | None = None,
    selection: Mapping[str, tuple[str, ...]] | None = None,
) -> list[Cell]:
    """Return the cells to run, in the order of the scenarios and of their rows, without repetition.

    Raises:
        UsageError: If the suite, an axis or a value does not exist, or nothing is left to run.
    """
    selection = dict(selection or {})
    if suite is not None and suite not in SUITE_NAMES:
        msg = f"no suite {suite!r}"
        raise UsageError(msg, hint=f"suites: {', '.join(SUITE_NAMES)}")
    for name in selection:
        if not any(scenario.axis(name) for scenario in scenarios):
            axes = sorted({axis.name for scenario in scenarios for axis in scenario.axes})
            msg = f"no selected scenario has an axis {name!r}"
            raise UsageError(msg, hint=f"axes: {', '.join(axes)}; try `crashcart list`")
    cells: dict[str, Cell] = {}
    for scenario in scenarios:
        for params in _points(scenario, suite, selection):
            cell = cell_at(scenario, params, environment, suite)
            cells.setdefault(cell.id, cell)
    if not cells:
        msg = "the selection leaves no cell"
        raise UsageError(msg, hint="`crashcart list` shows the cells and their suites")
    return list(cells.values())


def _points(
    scenario: Scenario, suite: str | None, selection: Mapping[str, tuple[str, ...]]
) -> Iterable[dict[str, str]]:
    """Yield the rows that match the selection, then points for selected values that no row covers."""
    axes = {name: scenario.axis(name) for name in selection}
    wanted = {
        name: selection[name] for name, axis in axes.items() if axis is not None and _check(axis, selection[name])
    }
    if len(wanted) < len(selection):
        return
    rows = [scenario.complete(row.params) for row in scenario.rows if suite is None or suite in row.suites]
    matching = [row for row in rows if all(row[name] in values for name, values in wanted.items())]
    yield from matching
    for name, values in wanted.items():
        for value in values:
            if any(row[name] == value for row in matching):
                continue
            others = {other: some for other, some in wanted.items() if other != name}
            templates = [row for row in rows if all(row[other] in some for other, some in others.items())]
            fallback = [scenario.complete({other: some[0] for other, some in others.items()})] if suite is None else []
            for template in templates or fallback:
                yield template | {name: value}


def _check(axis: Axis, values: Iterable[str]) -> bool:
    for value in values:
        if value in axis.values:
            continue
        if axis.package is None:
            msg = f"axis {axis.name} has no value {value!r}"
            raise UsageError(msg, hint=f"its values: {', '.join(axis.values)}")
        if not VERSION.fullmatch(value) and not names_place(value):
            msg = f"{value!r} is not a version of {axis.package}"
            hint = f"listed: {', '.join(axis.values)}; also a release like 1.2.3, a wheel file, or a checkout like ./"
            raise UsageError(msg, hint=hint)
    return True


def cell_at(scenario: Scenario, params: dict[str, str], environment: Environment, suite: str | None = None) -> Cell:
    """Return the cell at one point, whose parameters are complete; the suite decides whether it is needed."""
    row = next((row for row in scenario.rows if scenario.complete(row.params) == params), None)
    description = scenario.describe(params)
    unlisted = any(params[axis.name] not in axis.values for axis in scenario.axes)
    expectation = None if unlisted else scenario.expect(params, environment)
    return Cell(
        scenario=scenario.name,
        id=scenario.cell_id(params),
        params=params,
        kind=description.kind,
        control_of=scenario.cell_id(description.control_of) if description.control_of is not None else None,
        expected=expectation.verdict if expectation else None,
        expected_signature=expectation.signature if expectation else None,
        expected_reason=expectation.reason if expectation else "",
        untestable=scenario.requires(params, environment),
        needed=suite is not None and row is not None and suite not in row.may_be_untestable,
    )


def select(scenarios: Sequence[Scenario], names: Sequence[str]) -> tuple[Scenario, ...]:
    """Return the named scenarios, all of them if none is named.

    Raises:
        UsageError: If a name is unknown.
    """
    known = {scenario.name: scenario for scenario in scenarios}
    for name in names:
        if name not in known:
            msg = f"no scenario {name!r}"
            raise UsageError(msg, hint=f"scenarios: {', '.join(known)}")
    return tuple(known[name] for name in names) if names else tuple(scenarios)
