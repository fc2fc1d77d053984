"""The suites: what is in them, that they fit their time, and that nothing of them needs a GPU to be planned."""

from __future__ import annotations

import dataclasses

import pytest

from harness.errors import ExitCode
from harness.outcome import VerdictName
from harness.plan import Cell, plan
from harness.run import exit_code
from harness.spec import Environment
from scenarios.registry import all_scenarios
from tests.unit.test_judge import row
from tests.unit.test_plan import MACHINE

LIMIT_S = 600.0
LAPTOP_S = 900.0
GATE_S = 2.0
"""What is spent around an attempt: two looks at the GPUs, a title line, the row."""
PACKAGES = {**MACHINE.packages, "torch": "2.11.0+cu130", "vllm": "0.26.0", "openai": "2.8.0", "aiohttp": "3.13"}
ONE = dataclasses.replace(MACHINE, gpus=("NVIDIA H100 80GB HBM3",), cores=16, packages=PACKAGES)
TWO = dataclasses.replace(MACHINE, gpus=("NVIDIA H200",) * 2, cores=32, packages=PACKAGES)
CPU = {"torch": "2.13.0+cpu", "openai": "3.52.0", "aiohttp": "3.13", "fastapi": "0.140", "httpx": "0.28"}
LAPTOP = dataclasses.replace(MACHINE, packages={**MACHINE.packages, **CPU})
ON_LAPTOPS = {"actor_gc", "nested_spawn", "timeout_retries", "dp_ep_deadlock", "rollout", "orphaned_engine"}
SCENARIOS = {scenario.name: scenario for scenario in all_scenarios()}


def cells(suite: str, machine: Environment) -> list[Cell]:
    """Return the cells of a suite as they would be run on a machine."""
    return plan(list(SCENARIOS.values()), machine, suite=suite)


def test_the_laptop_suite_fits_its_time_and_shows_each_scenario_failing_and_passing() -> None:
    """At least 40 rows that two cores without a GPU can run in a quarter of an hour, by their declared durations."""
    planned = [cell for cell in cells("laptop", LAPTOP) if cell.untestable is None]
    assert len(planned) >= 40
    launches = [SCENARIOS[cell.scenario].launch(cell.params, LAPTOP) for cell in planned]
    assert sum(launch.expected_s for launch in launches) < LAPTOP_S
    for name in {cell.scenario for cell in planned} | ON_LAPTOPS:
        verdicts = {cell.expected for cell in planned if cell.scenario == name}
        assert verdicts == {VerdictName.REPRODUCED, VerdictName.ABSENT}, name


@pytest.mark.parametrize("name", ["graph_capture", "nccl_destroy"])
def test_the_laptop_suite_tells_what_needs_a_gpu_without_minding(name: str) -> None:
    """A failing cell and its control, both untestable for a reason that names the GPU; the exit code stays 0."""
    planned = [cell for cell in cells("laptop", LAPTOP) if cell.scenario == name]
    assert {cell.expected for cell in planned} == {VerdictName.REPRODUCED, VerdictName.ABSENT}
    assert all("GPU" in (cell.untestable or "") for cell in planned)
    rows = [row(VerdictName.UNTESTABLE, None, cell.id) for cell in planned]
    assert exit_code(rows, planned) is ExitCode.OK


@pytest.mark.parametrize(("suite", "machine"), [("gpu1", ONE), ("gpu2", TWO)], ids=["gpu1", "gpu2"])
def test_a_suite_fits_its_time_and_runs_whole(suite: str, machine: Environment) -> None:
    """The declared durations, with the gates around them, stay within ten minutes; every row can run there."""
    planned = cells(suite, machine)
    assert [cell.untestable for cell in planned] == [None] * len(planned)
    launches = [SCENARIOS[cell.scenario].launch(cell.params, machine) for cell in planned]
    assert sum(launch.expected_s + GATE_S for launch in launches) < LIMIT_S


def test_both_suites_hold_what_they_are_for() -> None:
    """Each mode, guard, stream and kind of graphs; both calls of NCCL, each layer, and the abort on a thread."""
    one = [cell for cell in cells("gpu1", ONE) if cell.scenario == "graph_capture"]
    for axis in ("mode", "guard", "graphs", "streams"):
        (values,) = (known.values for known in SCENARIOS["graph_capture"].axes if known.name == axis)
        assert {cell.params[axis] for cell in one} == set(values), axis
    two = [cell for cell in cells("gpu2", TWO) if cell.scenario == "nccl_destroy"]
    (layers,) = (known.values for known in SCENARIOS["nccl_destroy"].axes if known.name == "layer")
    assert {cell.params["layer"] for cell in two} == set(layers) - {"ray_tp2"}  # in gpu-full: it takes too long
    assert {cell.expected_signature for cell in two} >= {"hang in ncclCommDestroy", "hang in ncclCommAbort"}
    assert any(cell.params["destroy"] == "abort_thread" and cell.expected is VerdictName.ABSENT for cell in two)


@pytest.mark.parametrize("suite", ["gpu1", "gpu2", "gpu-full", "rocm"])
def test_without_gpus_every_row_says_so_and_the_exit_code_minds(suite: str) -> None:
    """Planned, explained and counted on any machine; a suite that could not run is not a pass."""
    planned = [cell for cell in cells(suite, MACHINE) if "gpu" in (cell.untestable or "").lower()]
    needing = [cell for cell in cells(suite, MACHINE) if cell.scenario in {"graph_capture", "nccl_destroy"}]
    assert {cell.id for cell in needing} <= {cell.id for cell in planned}
    rows = [row(VerdictName.UNTESTABLE, None, cell.id) for cell in planned]
    assert exit_code(rows, planned) is ExitCode.NO_VERDICT


def test_one_gpu_is_enough_for_what_is_not_about_two() -> None:
    """On one GPU the rows for two name the number; those for one can run."""
    planned = [cell for cell in cells("gpu-full", ONE) if cell.params.get("stack") != "sglang"]
    blocked = {cell.scenario for cell in planned if cell.untestable is not None}
    assert all(
        "2 GPUs are needed, this machine has 1" in (cell.untestable or "2 GPUs are needed, this machine has 1")
        for cell in planned
    )
    assert "nccl_destroy" in blocked
    assert not [cell for cell in planned if cell.untestable and cell.params.get("trigger") == "event_query"]


def test_rows_of_a_stack_that_is_not_installed_name_it() -> None:
    """SGLang's rows stand in the plan of a machine that has only vLLM."""
    reasons = {cell.untestable for cell in cells("gpu-full", ONE) if cell.params.get("stack") == "sglang"}
    assert reasons == {"sglang is not installed", "2 GPUs are needed, this machine has 1"}
