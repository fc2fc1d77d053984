"""The pytest plugin: supervised tests, leased GPUs, cells as tests. docs/how-to/protect-a-gpu-suite.md explains it.

Loaded by every pytest of an environment that has crashcart, so that this module imports pytest and nothing else: a
session without a marked test and without an option of ours pays for a few attribute look-ups per test.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from harness.pytest_plugin.keys import DEADLINE, GUARD, LEASED, ROW, SCENARIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.judge import Row
    from harness.probes.gpu import GpuDevice

MARKS: Final = frozenset({"supervised", "gpu", "cuda", "rocm", "scenario"})
OFF_UNDER: Final = ("usepdb", "trace")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options; each has an ini setting of the same name where it makes sense for a whole suite."""
    group = parser.getgroup("crashcart", "crashcart: supervised tests, leased GPUs, scenarios")
    group.addoption(
        "--crashcart-supervise",
        choices=("marked", "all", "off"),
        help="which tests run under the supervisor (ini: crashcart_supervise; default: marked)",
    )
    group.addoption(
        "--crashcart-timeout", metavar="S", type=float, help="deadline of each supervised test that names none itself"
    )
    group.addoption("--crashcart-dir", metavar="DIR", help="where evidence goes (default: ROOTDIR/.crashcart)")
    group.addoption(
        "--crashcart-keep",
        choices=("failed", "all"),
        default="failed",
        help="whose evidence is kept (default: failed)",
    )
    group.addoption(
        "--crashcart-gpus",
        metavar="LIST",
        help="take these GPUs for granted instead of looking: 'none', or VENDOR:GIB[:ARCH[:nvlink]],…",
    )
    group.addoption("--crashcart-suite", metavar="NAME", help="collect the cells of a suite as tests, and nothing else")
    group.addoption("--crashcart-log", metavar="FILE", help="append every event as a line of JSON, flushed at once")
    parser.addini("crashcart_supervise", "which tests run under the supervisor: marked, all, off", default="marked")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks, and register only what was asked for."""
    for line in (
        "supervised(hang_after=, timeout=, orphans=, shm=, gpu_memory=, reruns=): run in a supervised child process",
        "gpu(count=1, vendor=, memory_gib=, arch=, nvlink=): lease GPUs; implies supervised",
        "cuda(count=1, memory_gib=, arch=, nvlink=): as gpu(vendor='nvidia')",
        "rocm(count=1, memory_gib=, arch=): as gpu(vendor='amd')",
        "scenario(name, verdict=, AXIS=VALUE, ...): run that cell of crashcart first and assert its verdict",
    ):
        config.addinivalue_line("markers", line)
    if hasattr(config, "workerinput"):
        return
    from harness.pytest_plugin.controller import register

    register(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401 - a type of pytest-xdist
    """Let the workers of pytest-xdist put their evidence in one place."""
    from harness.pytest_plugin.evidence import session_folder

    node.workerinput["crashcart"] = str(session_folder(node.config))


@pytest.hookimpl(tryfirst=True)
def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Collect nothing but the suite where one was asked for."""
    return True if config.option.crashcart_suite else None


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Read the marks, once and before anything runs, so that a wrong one is a clear line and no late surprise."""
    everything = _mode(config) == "all"
    marked = [item for item in items if everything or any(mark.name in MARKS for mark in item.iter_markers())]
    if marked:
        from harness.pytest_plugin.collecting import read_marks

        read_marks(config, marked, everything=everything)
    if suite := config.option.crashcart_suite:
        from harness.pytest_plugin.cells import collect_suite

        items[:] = collect_suite(config, session, suite)


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> str | None:
    """Say so where marked tests will run without their supervisor."""
    guarded = sum(GUARD in item.stash for item in items)
    if guarded and not supervision_is_on(config):
        why = (
            "--crashcart-supervise=off" if _mode(config) == "off" else "--pdb and --trace need the test in this process"
        )
        return f"crashcart: supervision is off ({why}): {guarded} tests run unprotected"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a guarded test in a supervised child; leave every other one to pytest."""
    if GUARD not in item.stash:
        return None
    from harness.pytest_plugin.protocol import run_guarded, run_unguarded

    if supervision_is_on(item.config):
        run_guarded(item, nextitem)
        return True
    return run_unguarded(item, nextitem)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave no empty folder."""
    evidence = sys.modules.get("harness.pytest_plugin.evidence")
    if evidence is not None and not hasattr(session.config, "workerinput"):
        evidence.remove_if_empty(session.config)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool | None:  # noqa: ANN401 - of pytest-timeout
    """Take over the limit of pytest-timeout, whose timers cannot end a test that is blocked in C."""
    if GUARD not in item.stash or settings.func_only or not supervision_is_on(item.config):
        return None
    item.stash[DEADLINE] = settings.timeout
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Run the cell that a test is about before its body."""
    if mark := item.stash.get(SCENARIO, None):
        from harness.pytest_plugin.cells import run_marked

        item.stash[ROW] = run_marked(item, mark)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Show an attempt that was followed by another one, as pytest-rerunfailures does."""
    if str(report.outcome) == "rerun":  # the word of pytest-rerunfailures
        return "rerun", "R", ("RERUN", {"yellow": True})
    return None


@pytest.fixture
def leased_gpus(request: pytest.FixtureRequest) -> tuple[GpuDevice, ...]:
    """Return the GPUs that this test has leased; its own visible devices are numbered from 0 in that order."""
    node: pytest.Item = request.node
    return node.stash.get(LEASED, ())


@pytest.fixture
def crashcart_row(request: pytest.FixtureRequest) -> Callable[[], Row]:
    """Return a function that gives the result row of the cell, once the test has begun."""
    node: pytest.Item = request.node
    return lambda: node.stash[ROW]


def supervision_is_on(config: pytest.Config) -> bool:
    """Whether guarded tests get their supervisor: not where a debugger needs the terminal."""
    return _mode(config) != "off" and not any(config.getoption(name, None) for name in OFF_UNDER)


def _mode(config: pytest.Config) -> str:
    mode = config.option.crashcart_supervise or config.getini("crashcart_supervise")
    if mode not in {"marked", "all", "off"}:
        msg = f"crashcart_supervise = {mode!r} in the ini file: say marked, all or off"
        raise pytest.UsageError(msg)
    return str(mode)
