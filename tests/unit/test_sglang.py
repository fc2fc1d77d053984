"""What is read off SGLang's titles and log, and the oracle of `orphaned_engine` on literal records of both stacks.

The lines of the log are formats of its sources (0.5.11: ``model_runner.py``; 0.5.17: ``cuda_graph_setup.py``) with the
values filled in by hand.
"""

from __future__ import annotations

import dataclasses

import pytest

from harness.attempt import Attempt
from harness.outcome import VerdictName
from harness.plan import cell_at
from harness.roles import role
from scenarios.graph_capture import SCENARIO as CAPTURE
from scenarios.orphaned_engine import SCENARIO, oracle
from scenarios.programs.sglang_server import all_reduce_in, captured, complaint
from tests.unit.attempts import S, attempt, error, fault, process
from tests.unit.test_plan import MACHINE

OLD = "[2026-11-21 09:00:00] Capture cuda graph end. Time elapsed: 1.20 s. mem usage=0.10 GB. avail mem=70.00 GB.\n"
NEW = "[2026-11-21 09:00:00] Capture decode CUDA graph end. elapsed=1.20 s, mem usage=0.10 GB.\n"
BEGIN = "[2026-11-21 09:00:00] Capture cuda graph begin. This can take up to several minutes. avail mem=70.10 GB\n"
SERVER = "python3 -m sglang.launch_server --model-path tiny"


@pytest.mark.parametrize(("text", "count"), [(BEGIN + OLD, 1), (NEW, 1), (BEGIN, 0), ("", 0)])
def test_graphs_are_counted_by_the_end_of_their_capture(text: str, count: int) -> None:
    assert captured(text) == count


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[2026-11-21 09:00:00 TP0] Registering 20 cuda graph addresses\n", "custom"),
        ("[2026-11-21 09:00:00 TP0] Registering 0 cuda graph addresses\n", "nccl"),
        ("Setup Custom allreduce failed with CUDA error: invalid argument. To silence this warning, ...\n", "nccl"),
        ("[AR] Using AiterCustomAllreduce (AMD default)\nRegistering 20 cuda graph addresses\n", "aiter"),
    ],
)
def test_the_all_reduce_that_the_graphs_hold_is_read_off_the_log(text: str, name: str) -> None:
    """An all-reduce that SGLang gave up without an end of the server is not taken for the one asked for."""
    assert all_reduce_in(text + NEW) == name


def test_the_first_error_of_a_log_is_what_is_told() -> None:
    text = f"{BEGIN}RuntimeError: CUDA error: operation not permitted when stream is capturing\nValueError: Error: x\n"
    assert complaint(text) == "RuntimeError: CUDA error: operation not permitted when stream is capturing"
    assert not complaint(BEGIN)


def test_roles_of_sglang() -> None:
    """The titles that 0.5.11 to 0.5.17 give themselves."""
    assert [role(name) for name in (SERVER, "sglang::scheduler_TP0", "sglang::detokenizer")] == [
        "api_server",
        "sglang_scheduler",
        "sglang_detokenizer",
    ]


def killed(stack: str, core: str, lived_s: float | None) -> Attempt:
    """Return an attempt whose API server was killed at 10 s, and whose engine process died so much later."""
    api = process(11, SERVER if stack == "sglang" else "vllm serve", died_s=10.0, signal="SIGKILL", ended_by="fault:x")
    died = None if lived_s is None else 10.0 + lived_s
    params = {"target": "api", "signal": "KILL", "moment": "idle", "stack": stack}
    processes = (api, process(12, core, died_s=died))
    return attempt(params, processes=processes, faults=(fault(11, "kill_api"),))


@pytest.mark.parametrize(
    ("stack", "core", "lived_s", "verdict", "signature"),
    [
        ("sglang", "sglang::scheduler", 0.1, VerdictName.ABSENT, None),
        ("sglang", "sglang::scheduler", 30.0, VerdictName.REPRODUCED, "orphaned scheduler"),
        ("sglang", "sglang::detokenizer", None, VerdictName.REPRODUCED, "orphaned detokenizer"),
        ("vllm", "VLLM::EngineCore", 30.0, VerdictName.REPRODUCED, "orphaned EngineCore"),
        ("vllm", "VLLM::EngineCore_DP0", 0.2, VerdictName.ABSENT, None),
    ],
)
def test_an_engine_that_outlives_its_server_is_an_orphan(
    stack: str, core: str, lived_s: float | None, verdict: VerdictName, signature: str | None
) -> None:
    found = oracle(killed(stack, core, lived_s)).verdict
    assert (found.name, found.signature) == (verdict, signature)


def test_an_engine_that_had_to_be_stopped_is_an_orphan() -> None:
    """However soon that was."""
    stopped = dataclasses.replace(killed("vllm", "VLLM::EngineCore", 9.0), stopped_ns=18 * S)
    assert oracle(stopped).verdict.name is VerdictName.REPRODUCED


@pytest.mark.parametrize(
    ("lived_s", "ended_by", "stopped_s", "verdict", "signature"),
    [
        (6.5, "fault:term_core", None, VerdictName.ABSENT, None),
        (6.5, "fault:term_core", 9.0, VerdictName.ABSENT, None),
        (12.0, "fault:term_core", None, VerdictName.OTHER_FAILURE, "signal not obeyed"),
        (9.0, "fault:term_core", 8.9, VerdictName.OTHER_FAILURE, "signal not obeyed"),
        (9.0, "stop:SIGTERM", 8.9, VerdictName.OTHER_FAILURE, "fault not delivered"),
        (0.0, "", None, VerdictName.OTHER_FAILURE, "fault not delivered"),
    ],
)
def test_a_sigterm_may_take_its_time(
    lived_s: float, ended_by: str, stopped_s: float | None, verdict: VerdictName, signature: str | None
) -> None:
    """An effect that was not seen in time is no signal that was not delivered: the ledger knows what was sent to it.

    What ended it is told by when it died: the mark of the fault stays where the stop ladder had to do it.
    """
    core = process(12, "VLLM::EngineCore", died_s=10.0 + lived_s, ended_by=ended_by)
    params = {"target": "core", "signal": "TERM", "moment": "idle", "stack": "vllm"}
    late = fault(12, "term_core", confirmed=False, detail="SIGTERM was delivered, and it still runs after 5 s")
    stopped_ns = None if stopped_s is None else int((10.0 + stopped_s) * S)
    found = oracle(attempt(params, processes=(core,), faults=(late,), stopped_ns=stopped_ns)).verdict
    assert (found.name, found.signature) == (verdict, signature)


def test_a_server_that_goes_on_without_its_engine_has_not_obeyed() -> None:
    """It is confirmed (it has a handler), and stopped nine seconds later: no pass, whatever its engine did."""
    server = process(11, "vllm serve", died_s=19.1, signal="SIGKILL", ended_by="fault:term_api")
    gone = process(12, "VLLM::EngineCore", died_s=11.0)
    params = {"target": "api", "signal": "TERM", "moment": "idle", "stack": "vllm"}
    said = attempt(params, processes=(server, gone), faults=(fault(11, "term_api"),), stopped_ns=19 * S)
    found = oracle(said).verdict
    assert (found.name, found.signature) == (VerdictName.OTHER_FAILURE, "signal not obeyed")
    assert found.reasons == ("SIGTERM was delivered, and vllm serve went on until it was ended",)


@pytest.mark.parametrize(
    ("moment", "stopped_s", "engine_s", "verdict"),
    [
        ("decode", None, 0.1, VerdictName.ABSENT),
        ("idle", None, 0.1, VerdictName.OTHER_FAILURE),
        ("decode", 9.0, 0.1, VerdictName.OTHER_FAILURE),
        ("decode", None, 11.0, VerdictName.OTHER_FAILURE),
    ],
    ids=["waits for its client", "nobody to wait for", "had to be ended", "its engine lives, too"],
)
def test_a_server_may_wait_for_the_client_whose_answer_it_has_cut_off(
    moment: str, stopped_s: float | None, engine_s: float, verdict: VerdictName
) -> None:
    server = process(11, "vllm serve", died_s=21.3, ended_by="fault:term_api")
    engine = process(12, "VLLM::EngineCore", died_s=10.0 + engine_s)
    params = {"target": "api", "signal": "TERM", "moment": moment, "stack": "vllm"}
    stopped_ns = None if stopped_s is None else int((10.0 + stopped_s) * S)
    said = attempt(params, processes=(server, engine), faults=(fault(11, "term_api"),), stopped_ns=stopped_ns)
    found = oracle(said).verdict
    assert found.name is verdict
    assert ("the server ended after 11.3 s" in " ".join(found.reasons)) == (verdict is VerdictName.ABSENT)


def test_a_server_that_leaves_at_once_has_waited_for_nobody() -> None:
    server = process(11, "vllm serve", died_s=10.3, ended_by="fault:term_api")
    engine = process(12, "VLLM::EngineCore", died_s=10.1)
    params = {"target": "api", "signal": "TERM", "moment": "decode", "stack": "vllm"}
    found = oracle(attempt(params, processes=(server, engine), faults=(fault(11, "term_api"),))).verdict
    assert (found.name, found.reasons) == (
        VerdictName.ABSENT,
        ("all engine processes had ended 0.1 s after the fault",),
    )


def test_only_what_was_written_for_sglang_is_offered() -> None:
    """Other targets and moments are refused with the reason, not run as something else."""
    params = SCENARIO.complete({"target": "worker", "stack": "sglang"})
    assert "only the API server" in str(SCENARIO.requires(params, MACHINE))
    assert SCENARIO.requires(SCENARIO.complete({"stack": "sglang"}), MACHINE) is not None


@pytest.mark.parametrize(
    ("rocm", "all_reduce", "verdict"),
    [
        ("7.2.0", "aiter", VerdictName.REPRODUCED),
        ("7.2.1", "aiter", VerdictName.ABSENT),
        ("7.2.0", "custom", VerdictName.ABSENT),
        (None, "nccl", VerdictName.ABSENT),
    ],
)
def test_the_all_reduce_of_sglang_decides_up_to_rocm_7_2_0(
    rocm: str | None, all_reduce: str, verdict: VerdictName
) -> None:
    """As sglang#23581 tells it; AITER's cell is for AMD, with SGLang's own all-reduce as its control."""
    gpus, packages = ("MI300X",) * 2, {**MACHINE.packages, "sglang": "0.5.17"}
    machine = dataclasses.replace(MACHINE, gpus=gpus, rocm=rocm, packages=packages)
    cell = cell_at(CAPTURE, CAPTURE.complete({"stack": "sglang", "graphs": "full", "all_reduce": all_reduce}), machine)
    assert (cell.expected, cell.untestable) == (verdict, None)
    assert CAPTURE.launch(cell.params, machine).gpus == 2
    assert (cell.control_of is not None) is (all_reduce == "custom")


def test_an_abort_by_rocm_is_the_failure_that_it_is() -> None:
    """The first line of the log that names it is what the program hands over."""
    text = "Queue aborting with error : HSA_STATUS_ERROR_EXCEPTION: An HSAIL operation resulted in a hardware exception"
    params = CAPTURE.complete({"stack": "sglang", "graphs": "full", "all_reduce": "aiter"})
    found = CAPTURE.oracle(attempt(params, error("engine_failed", "RuntimeError", text))).verdict
    assert (found.name, found.signature) == (VerdictName.REPRODUCED, "HSA_STATUS_ERROR_EXCEPTION")
