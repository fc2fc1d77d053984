"""Cells of crashcart as tests: ``@pytest.mark.scenario`` on any test, and whole suites by ``--crashcart-suite``.

A cell is run by ``crashcart run`` in a process of its own, which is its supervisor; its row is what is asserted.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from harness.errors import UsageError
from harness.judge import Row
from harness.outcome import VerdictName
from harness.plan import Cell, plan
from harness.probes.machine import read_environment
from harness.pytest_plugin.evidence import make_session_folder, new_folder
from harness.record import RESULTS
from scenarios.registry import all_scenarios


class CellFailure(AssertionError):  # noqa: N818 - a failed assertion, shown without a traceback of ours
    """A cell whose verdict is not the asserted one."""


def run_marked(item: pytest.Item, mark: pytest.Mark) -> Row:
    """Run the cell that a mark names and assert its verdict; return its row.

    Raises:
        CellFailure: If the verdict is another one, or there is none.
    """
    __tracebackhide__ = True
    if len(mark.args) != 1 or not isinstance(mark.args[0], str):
        msg = "@pytest.mark.scenario needs the name of one scenario: scenario('orphaned_engine', target='core')"
        raise pytest.UsageError(msg)
    wanted = {axis: str(value) for axis, value in mark.kwargs.items() if axis != "verdict"}
    try:
        cell = _one_cell(mark.args[0], wanted)
        asserted = VerdictName(mark.kwargs["verdict"]) if "verdict" in mark.kwargs else None
    except (UsageError, ValueError) as error:
        msg = error.one_line() if isinstance(error, UsageError) else f"{error}: {', '.join(VerdictName)}"
        raise pytest.UsageError(msg) from None
    return check(item, cell, asserted)


def check(item: pytest.Item, cell: Cell, asserted: VerdictName | None = None) -> Row:
    """Run a cell and compare its verdict with the asserted or else the declared one; untestable is a skip.

    Raises:
        CellFailure: As in `run_marked`.
    """
    __tracebackhide__ = True
    folder = new_folder(make_session_folder(item.config), cell)
    row = run_cell(cell, folder)
    item.user_properties += [("crashcart_verdict", row.verdict.value), ("crashcart_evidence", str(folder))]
    story = "\n".join([*row.reasons, f"evidence: {folder}"])
    if row.verdict is VerdictName.UNTESTABLE:
        if cell.needed:
            msg = f"{cell.id} cannot be tested here, and the suite needs it: {story}"
            raise CellFailure(msg)
        pytest.skip(f"untestable here: {'; '.join(row.reasons)}")
    if asserted is None and row.expected is None:
        pytest.skip(f"nothing is expected of this cell; its verdict: {row.verdict} {row.signature or ''}")
    good = row.verdict is asserted if asserted is not None else row.as_expected
    if not good:
        msg = f"{cell.id}: {row.verdict} ({row.signature}), expected was {asserted or row.expected}\n{story}"
        raise CellFailure(msg)
    return row


def run_cell(cell: Cell, folder: Path) -> Row:
    """Run one cell with ``crashcart run`` and return its row.

    Raises:
        CellFailure: If there is no row; the message has the last words of crashcart.
    """
    parameters = [text for axis, value in cell.params.items() for text in ("-p", f"{axis}={value}")]
    command = [sys.executable, "-m", "harness", "run", cell.scenario, *parameters, "--out", str(folder), "--json"]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _, said = child.communicate()
    except BaseException:
        child.send_signal(signal.SIGTERM)
        child.communicate()
        raise
    rows = [msgspec.json.decode(line, type=Row) for line in _lines(folder / RESULTS)]
    found = next((row for row in rows if row.cell == cell.id), None)
    if found is None:
        last = said.decode(errors="replace").strip().splitlines()
        msg = f"crashcart gave no row for {cell.id}, exit code {child.returncode}: {last[-1] if last else ''}"
        raise CellFailure(msg)
    return found


def collect_suite(config: pytest.Config, session: pytest.Session, suite: str) -> list[pytest.Item]:
    """Return the cells of a suite as tests.

    Raises:
        pytest.UsageError: If there is no such suite.
    """
    try:
        cells = plan(all_scenarios(), read_environment(), suite=suite)
    except UsageError as error:
        raise pytest.UsageError(error.one_line()) from None
    collector = SuiteCollector.from_parent(session, name=f"crashcart-{suite}", path=config.rootpath)
    return [CellItem.from_parent(collector, name=cell.id, cell=cell) for cell in cells]


class SuiteCollector(pytest.Collector):
    """The parent of the cells of a suite."""

    def collect(self) -> Iterator[pytest.Item]:
        """Return nothing: `collect_suite` gives the cells."""
        return iter(())


class CellItem(pytest.Item):
    """One cell as a test."""

    def __init__(self, *, cell: Cell, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.cell = cell
        self.add_marker(getattr(pytest.mark, cell.scenario))

    def runtest(self) -> None:
        """Run the cell; its declared expectation is asserted."""
        check(self, self.cell)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """Show a verdict as it is, and anything else as pytest does."""
        del style
        if isinstance(excinfo.value, CellFailure):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[os.PathLike[str], int | None, str]:
        """Name the test in reports."""
        return self.path, None, self.name


def _one_cell(scenario: str, wanted: Mapping[str, str]) -> Cell:
    known = {one.name: one for one in all_scenarios()}
    if scenario not in known:
        msg = f"no scenario {scenario!r}"
        raise UsageError(msg, hint=f"scenarios: {', '.join(known)}")
    full = known[scenario].complete(wanted)
    cells = plan([known[scenario]], read_environment(), selection={axis: (value,) for axis, value in full.items()})
    return next(cell for cell in cells if cell.params == full)


def _lines(path: Path) -> Sequence[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError:
        return ()
