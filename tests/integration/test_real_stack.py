"""The main job on the real packages: every row as expected, counted from the records, and a clean machine after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness import child
from harness.outcome import Kind, VerdictName
from harness.plan import plan
from harness.probes.machine import read_environment
from harness.record import read_run
from harness.supervise.cookie import find_survivors
from scenarios.nccl_destroy_matrix import CLEANUPS
from scenarios.registry import all_scenarios
from tests.integration.test_cli import crashcart

pytestmark = pytest.mark.real_stack
SHM = Path("/dev/shm")
ROOT = Path(__file__).resolve().parents[2]


def listening() -> set[int]:
    """Return the ports on which processes of this user listen."""
    return {
        connection.laddr.port
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Run the suite once for all tests of this module; skip where the stacks cannot be had."""
    folder = tmp_path_factory.mktemp("laptop")
    cells = plan(all_scenarios(), read_environment(), suite="laptop")
    missing = {cell.untestable for cell in cells if cell.untestable is not None and cell.needed}
    if missing:
        pytest.skip(f"the CPU stack is not complete: {min(missing)}")
    before = (listening(), {path.name for path in SHM.iterdir()})
    done = crashcart("run", "--suite", "laptop", "--json", "--out", "run", cwd=folder, timeout=1800)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    tested = [row for row in rows if row["verdict"] != VerdictName.UNTESTABLE]
    wrong = [(row["cell"], row["verdict"], row["reasons"]) for row in tested if row["as_expected"] is not True]
    assert wrong == []  # named first: of a long output only the end may be shown
    assert done.returncode == 0, done.stderr[-1000:]
    assert (listening() - before[0], {path.name for path in SHM.iterdir()} - before[1]) == (set(), set())
    return folder / "run", rows


def test_every_row_is_as_expected(laptop: tuple[Path, list[dict[str, Any]]]) -> None:
    """At least 40 rows, all as expected, every exit status known or honestly unknown, nothing left alive."""
    directory, rows = laptop
    tested = [row for row in rows if row["verdict"] != VerdictName.UNTESTABLE]
    assert len(tested) >= 40
    assert [row["cell"] for row in tested if row["as_expected"] is not True] == []
    assert find_survivors() == []
    for attempts in read_run(directory).attempts.values():
        assert all(left.what != "process" for attempt in attempts for left in attempt.leftovers)


def test_real_failures_are_reproduced_unpatched_with_their_controls(
    laptop: tuple[Path, list[dict[str, Any]]],
) -> None:
    """At least six native or provoked failures of the real packages, each beside a control that passed."""
    _, rows = laptop
    passed = {row["control_of"] for row in rows if row["verdict"] == VerdictName.ABSENT}
    real = [
        row
        for row in rows
        if row["verdict"] == VerdictName.REPRODUCED
        and row["kind"] in {Kind.NATIVE, Kind.PROVOKED}
        and row["effective"]["patches"] == []
        and row["cell"] in passed
    ]
    assert len(real) >= 6, [row["cell"] for row in real]


def test_rows_that_need_a_gpu_say_so(laptop: tuple[Path, list[dict[str, Any]]]) -> None:
    """What this machine cannot run is in the table, with the reason, and neither a pass nor a failure."""
    _, rows = laptop
    untestable = [row for row in rows if row["verdict"] == VerdictName.UNTESTABLE]
    if not read_environment().gpus:
        assert {row["scenario"] for row in untestable} == {"graph_capture", "nccl_destroy"}
    assert all("GPU" in " ".join(row["reasons"]) and row["as_expected"] is None for row in untestable)


@pytest.mark.parametrize(
    "scenario", ["actor_gc", "dp_ep_deadlock", "nested_spawn", "orphaned_engine", "rollout", "timeout_retries"]
)
def test_each_scenario_fails_and_passes_on_the_real_packages(
    laptop: tuple[Path, list[dict[str, Any]]], scenario: str
) -> None:
    _, rows = laptop
    verdicts = {row["verdict"] for row in rows if row["scenario"] == scenario}
    assert verdicts == {VerdictName.REPRODUCED, VerdictName.ABSENT}


def test_a_deadlock_ends_with_its_detection_and_names_the_frame(laptop: tuple[Path, list[dict[str, Any]]]) -> None:
    """No deadline is waited for: the hang is found while the ranks are still there to be looked at."""
    directory, rows = laptop
    row = next(row for row in rows if row["cell"] == "dp_ep_deadlock[dp_mode=offline,step_ranks=only_0,ep=on]")
    attempt = read_run(directory).attempts[row["cell"]][0]
    assert attempt.end == "hang"
    assert row["effective"]["ep_size"] == "2"
    assert any(process.name.startswith("VLLM::Worker") for process in attempt.stuck_in(r"_run_ar \(dp_utils\.py"))


def test_an_injected_sigsegv_is_told_by_the_kernel(laptop: tuple[Path, list[dict[str, Any]]]) -> None:
    """The inner worker's signal stands in the row with its source, which is no log."""
    _, rows = laptop
    row = next(row for row in rows if row["cell"].endswith("backend=mp,inject=sigsegv]"))
    (death,) = [death for death in row["processes"]["signal_deaths"] if death["signal"] == "SIGSEGV"]
    assert death["name"].startswith("VLLM::Worker")
    assert death["status_source"] in {"pidfd", "subreaper", "zombie_stat", "connector"}
    assert row["kind"] == Kind.INJECTED


def test_effective_versions_are_read_off_the_programs(laptop: tuple[Path, list[dict[str, Any]]]) -> None:
    """Each row of actor_gc ran with the release that it asked for."""
    _, rows = laptop
    releases = {row["params"]["verl"]: row["effective"]["verl"] for row in rows if row["scenario"] == "actor_gc"}
    assert len(releases) >= 3
    assert all(asked == effective for asked, effective in releases.items())


def test_rays_cleanup_is_read_off_a_real_raylet() -> None:
    """Ray's settings reach the raylet by its environment, and are read there, not where they were asked for."""
    program = (
        "import json\n"
        "from scenarios.programs.local_ray import local_ray\n"
        "from scenarios.programs.nccl_destroy_ray import cleanup\n"
        "with local_ray(logical_cpus=1):\n"
        "    print(json.dumps(cleanup()), flush=True)\n"
    )
    with tempfile.TemporaryDirectory(prefix="cc-", dir="/tmp") as folder:  # short enough for Ray's sockets
        env = {**os.environ, **CLEANUPS["direct"], "PYTHONPATH": str(ROOT), child.SCRATCH: folder}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=env, timeout=120, check=False
        )
    assert json.dumps(CLEANUPS["direct"]) in done.stdout.splitlines(), done.stderr[-1000:]
