"""The cells of each scenario as a picture: one axis across, the others down, the verdict in each field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.load import Numbered


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """One scenario; a field holds several rows where they differ in nothing but what the axes do not say."""

    scenario: str
    same: Mapping[str, str]
    """Axes with one value in all cells."""
    across: str
    columns: tuple[str, ...]
    down: tuple[str, ...]
    lines: tuple[tuple[tuple[str, ...], tuple[tuple[Numbered, ...], ...]], ...]
    """Values of the axes that go down, and the fields of that line."""


def matrices(rows: Sequence[Numbered]) -> list[Matrix]:
    """Return a matrix for each scenario, in the order of the rows; every row stands in exactly one field."""
    scenarios: dict[str, list[Numbered]] = {}
    for one in rows:
        scenarios.setdefault(one.row.scenario, []).append(one)
    return [_matrix(name, found) for name, found in scenarios.items()]


def _matrix(scenario: str, rows: list[Numbered]) -> Matrix:
    values: dict[str, list[str]] = {}
    for one in rows:
        for axis, value in one.row.params.items():
            listed = values.setdefault(axis, [])
            if value not in listed:
                listed.append(value)
    varying = [axis for axis, found in values.items() if len(found) > 1]
    across = min(varying, key=lambda axis: _height(rows, varying, axis), default="")
    down = tuple(axis for axis in varying if axis != across)
    columns = tuple(values.get(across, [""]))
    fields: dict[tuple[str, ...], dict[str, list[Numbered]]] = {}
    for one in rows:
        params = one.row.params
        line = fields.setdefault(tuple(params.get(axis, "") for axis in down), {})
        line.setdefault(params.get(across, ""), []).append(one)
    return Matrix(
        scenario=scenario,
        same={axis: found[0] for axis, found in values.items() if len(found) == 1},
        across=across,
        columns=columns,
        down=down,
        lines=tuple((key, tuple(tuple(line.get(c, ())) for c in columns)) for key, line in fields.items()),
    )


def _height(rows: list[Numbered], varying: list[str], across: str) -> int:
    """Return the number of lines that the matrix has with that axis across; wide ones count as tall."""
    lines = {tuple(one.row.params.get(axis, "") for axis in varying if axis != across) for one in rows}
    columns = len({one.row.params.get(across, "") for one in rows})
    return len(lines) + (1000 if columns > 8 else 0)  # noqa: PLR2004 - more columns do not fit a screen
