"""The matrix, the expectations and the oracle of `graph_capture`, on literal records.

The words of CUDA's errors are those that an H200 gave (torch 2.11). The HIP texts are put together from the tables of
HIP's headers and the public thread sglang#23581; no AMD hardware has produced them here.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from harness.attempt import Attempt, Mark, Process
from harness.events import ProcessKey
from harness.outcome import ExitStatus, StatusSource, VerdictName
from harness.plan import plan
from scenarios.capture_errors import ERRORS, hsa_status, read, vendor
from scenarios.graph_capture import SCENARIO, SILENT, broken_by, oracle
from scenarios.programs.graph_capture_vllm import ALL_REDUCE, joined
from scenarios.programs.graph_worker import all_reduce_of
from tests.unit.test_plan import MACHINE

CUDA_INVALIDATED = (
    "CUDA error: operation failed due to a previous error during capture\n"
    "Search for `cudaErrorStreamCaptureInvalidated' in https://docs.nvidia.com for more information."
)
HIP_INVALIDATED = (
    "HIP error: operation failed due to a previous error during capture (hipErrorStreamCaptureInvalidated)"
)
CUDA_UNSUPPORTED = "CUDA error: operation not permitted when stream is capturing"
HSA_ABORT = "rocdevice.cpp: Callback: Queue aborting with error : HSA_STATUS_ERROR_EXCEPTION: ... code: 0x1016"
RIGHT = {"right": True, "got": 5.0, "wanted": 5.0}
WRONG = {"right": False, "got": 4.0, "wanted": 5.0}


def error(text: str) -> dict[str, Any]:
    """Return the data of an error mark."""
    return {"error": [{"type": "torch.AcceleratorError", "text": text}]}


def attempt(*marks: tuple[str, dict[str, Any]], **params: str) -> Attempt:
    """Return a finished attempt of a cell with these marks."""
    return Attempt(
        cell="c", attempt=1, params=SCENARIO.complete(params), started_ns=0, end="exited", nonce=True,
        marks=tuple(Mark(name=name, pid=1, t_ns=0, data=data) for name, data in marks),
    )  # fmt: skip


DID, DID_NOT = ("other_thread", {"did": True}), ("other_thread", {"did": False})


@pytest.mark.parametrize(
    ("params", "marks", "verdict", "signature"),
    [
        (
            {"trigger": "event_query"},
            [("capture_failed", error(CUDA_INVALIDATED)), ("other_thread_failed", error(CUDA_UNSUPPORTED))],
            VerdictName.REPRODUCED,
            "cudaErrorStreamCaptureInvalidated",
        ),
        (
            {"trigger": "event_query"},
            [("capture_failed", error(HIP_INVALIDATED))],
            VerdictName.REPRODUCED,
            "hipErrorStreamCaptureInvalidated",
        ),
        ({}, [("capture_failed", error("CUDA out of memory"))], VerdictName.OTHER_FAILURE, "another error"),
        ({"streams": "off"}, [("replayed", RIGHT), ("replayed", WRONG)], VerdictName.REPRODUCED, SILENT),
        ({}, [("replayed", RIGHT)], VerdictName.ABSENT, None),
        ({}, [], VerdictName.OTHER_FAILURE, "no replay"),
        ({"trigger": "malloc", "mode": "relaxed"}, [DID, ("replayed", RIGHT)], VerdictName.ABSENT, None),
        (
            {"trigger": "malloc", "mode": "relaxed"},
            [DID_NOT, ("replayed", RIGHT)],
            VerdictName.OTHER_FAILURE,
            "the other thread did nothing",
        ),
        (
            {"trigger": "malloc", "mode": "relaxed"},
            [DID_NOT, ("other_thread_failed", error(CUDA_UNSUPPORTED)), ("replayed", RIGHT)],
            VerdictName.OTHER_FAILURE,
            "the other thread failed",
        ),
    ],
)
def test_torch_captures(
    params: dict[str, str], marks: list[tuple[str, dict[str, Any]]], verdict: VerdictName, signature: str | None
) -> None:
    """Only a capture error or wrong numbers are the failure; a pass needs a disturbance that took place."""
    found = oracle(attempt(*marks, **params)).verdict
    assert (found.name, found.signature) == (verdict, signature)


def test_an_hsa_abort_is_the_failure_and_another_abort_is_not() -> None:
    """ROCm's runtime aborts the process; the status is read from its last words."""
    dead = Process(
        key=ProcessKey(1, 1), ppid=0, parent=None, names=("python",), claimed_by="root", born_ns=0, died_ns=1,
        status=ExitStatus(signal="SIGABRT", source=StatusSource.WAITPID),
    )  # fmt: skip
    ended = dataclasses.replace(attempt(), processes=(dead,), nonce=False, detail=HSA_ABORT)
    assert oracle(ended).verdict.signature == "HSA_STATUS_ERROR_EXCEPTION"
    other = dataclasses.replace(ended, detail="terminate called after throwing an instance of 'std::bad_alloc'")
    assert oracle(other).verdict.name is VerdictName.OTHER_FAILURE


STATE = {"graphs": "full", "mode": "FULL", "captured": 4}
OFF = {"graphs": "off", "mode": "NONE", "captured": 0}
LOAD = {"load": "c8_32", "tok_s": 900.0}


@pytest.mark.parametrize(
    ("graphs", "marks", "verdict"),
    [
        ("full", [("graph_state", STATE), ("load", LOAD)], VerdictName.ABSENT),
        ("full", [("graph_state", {**STATE, "captured": 0}), ("load", LOAD)], VerdictName.UNTESTABLE),
        (
            "off",
            [("graph_state", {"graphs": "off", "mode": "NONE", "captured": 0}), ("load", LOAD)],
            VerdictName.ABSENT,
        ),
        ("full", [("graph_state", STATE)], VerdictName.OTHER_FAILURE),
        ("full", [("engine_failed", error(HIP_INVALIDATED))], VerdictName.REPRODUCED),
        ("full", [("engine_failed", error("no module named vllm"))], VerdictName.OTHER_FAILURE),
    ],
)
def test_engines_must_have_captured_what_was_asked_for(
    graphs: str, marks: list[tuple[str, dict[str, Any]]], verdict: VerdictName
) -> None:
    """Throughput without graphs is no pass of a cell with graphs."""
    judged = oracle(attempt(*marks, stack="vllm", graphs=graphs))
    assert judged.verdict.name is verdict
    if verdict is VerdictName.ABSENT:
        assert judged.throughput == {"c8_32_tok_s": 900.0, "output_tok_s": 900.0}


ON, DISABLED = SimpleNamespace(disabled=False), SimpleNamespace(disabled=True)


@pytest.mark.parametrize(
    ("communicator", "name"),
    [
        (None, "none"),
        (SimpleNamespace(ca_comm=ON, pynccl_comm=ON), "custom"),
        (SimpleNamespace(ca_comm=DISABLED, symm_mem_comm=None, pynccl_comm=ON), "nccl"),
        (SimpleNamespace(ca_comm=None, symm_mem_comm=ON, pynccl_comm=ON), "symm_mem"),
        (SimpleNamespace(fi_ar_comm=ON, ca_comm=ON, pynccl_comm=ON), "flashinfer"),
    ],
)
def test_the_all_reduce_of_vllm_is_the_first_that_is_not_disabled(
    communicator: SimpleNamespace | None, name: str
) -> None:
    assert all_reduce_of(communicator) == name


def test_what_several_workers_say_is_one_answer_only_where_they_agree() -> None:
    one = {"runner": "v2", "mode": "FULL", "captured": 4, "all_reduce": "custom"}
    assert joined([one]) == joined([one, one]) == one
    other = {**one, "captured": 3, "all_reduce": "nccl"}
    assert joined([one, other]) == {**other, "all_reduce": "custom and nccl"}


def test_the_all_reduce_that_was_used_is_compared_with_the_one_that_was_asked_for() -> None:
    """The judge makes a row untestable whose effective value of an axis is another one."""
    state = ("graph_state", {**STATE, "all_reduce": "nccl"})
    judged = oracle(attempt(state, ("load", LOAD), stack="vllm", graphs="full", all_reduce="custom"))
    assert judged.effective["all_reduce"] == "nccl"


@pytest.mark.parametrize("all_reduce", ["custom", "nccl"])
def test_two_ranks_of_an_engine_get_two_gpus_and_no_symmetric_memory(all_reduce: str) -> None:
    assert ALL_REDUCE[all_reduce]["tensor_parallel_size"] == 2
    machine = dataclasses.replace(MACHINE, gpus=("H200",) * 2, packages={**MACHINE.packages, "sglang": "0.5.17"})
    forbidden = {"vllm": "VLLM_ALLREDUCE_USE_SYMM_MEM", "sglang": "SGLANG_OPT_USE_CUSTOM_ALL_REDUCE_V2"}
    for stack, name in forbidden.items():
        params = SCENARIO.complete({"stack": stack, "graphs": "full", "all_reduce": all_reduce})
        assert SCENARIO.requires(params, machine) is None
        started = SCENARIO.launch(params, machine)
        assert (started.gpus, started.env[name]) == (2, "0")


def test_capture_errors_are_told_apart() -> None:
    """Each error is found by its words and by its name in both vocabularies, and the first one named wins."""
    for one in ERRORS:
        assert read(f"CUDA error: {one.words}") is one
        assert read(f"error: {one.name('amd')}") is one
    assert read("CUDA error: out of memory") is None
    assert (vendor(HIP_INVALIDATED), vendor(CUDA_INVALIDATED)) == ("amd", "nvidia")
    assert hsa_status("aborting, status 0x1016") == "HSA_STATUS_ERROR_EXCEPTION"
    assert hsa_status("aborting with error : HSA_STATUS_ERROR_MEMORY_FAULT: x") == "HSA_STATUS_ERROR_MEMORY_FAULT"
    assert hsa_status("Aborted (core dumped)") is None


def test_the_matrix_is_whole() -> None:
    """Every trigger in every mode under every guard, and every arrangement of streams in every mode."""
    rows = [SCENARIO.complete(row.params) for row in SCENARIO.rows if "gpu-full" in row.suites]
    triggered = {(row["trigger"], row["mode"], row["guard"]) for row in rows if row["streams"] == "one"}
    assert len({one for one in triggered if one[0] in {"event_query", "malloc", "synchronize"}}) == 36
    arranged = {(row["streams"], row["mode"]) for row in rows if row["trigger"] == "none" and row["stack"] == "torch"}
    assert len(arranged) == 18
    assert len({tuple(row.items()) for row in rows}) == len(rows)


def test_what_rocm_does_otherwise_is_stated_and_marked() -> None:
    """Up to 7.2.0 a guarded query invalidates all the same; nothing there is claimed to have been run."""
    old = dataclasses.replace(MACHINE, gpus=("AMD gfx942",), rocm="7.0.2")
    new = dataclasses.replace(old, rocm="7.2.1")
    guarded = {"trigger": ("event_query",), "guard": ("thread_local",), "mode": ("global",)}
    (cell,) = plan([SCENARIO], old, selection=guarded)
    assert cell.expected is VerdictName.REPRODUCED
    assert "not run on hardware" in cell.expected_reason
    (cell,) = plan([SCENARIO], new, selection=guarded)
    assert cell.expected is VerdictName.ABSENT
    assert broken_by(cell.params) is None


@pytest.mark.parametrize(
    ("gpus", "torch", "params", "reason"),
    [
        ((), "2.13.0", {}, "no GPU"),
        (("H100",), "2.13.0+cpu", {}, "a build without GPUs"),
        (("H100",), "2.11.0+cu130", {}, None),
        (("H100",), "2.11.0+cu130", {"trigger": "watchdog"}, "2 GPUs are needed, this machine has 1"),
        (("H100", "H100"), "2.11.0+cu130", {"trigger": "watchdog"}, None),
        (("H100",), "2.11.0+cu130", {"graphs": "full"}, "vLLM's"),
        (("H100",), "2.11.0+cu130", {"graphs": "full", "stack": "vllm"}, None),
        (("H100",), "2.11.0+cu130", {"graphs": "own", "stack": "vllm"}, "captures by itself"),
        (("H100",), "2.11.0+cu130", {"graphs": "full", "stack": "vllm", "all_reduce": "nccl"}, "2 GPUs are needed"),
        (("H100",) * 2, "2.11.0+cu130", {"graphs": "full", "stack": "vllm", "all_reduce": "aiter"}, "for SGLang's"),
        (("H100",) * 2, "2.11.0+cu130", {"all_reduce": "nccl"}, "for vLLM and SGLang alone"),
    ],
)
def test_what_is_missing_is_said(gpus: tuple[str, ...], torch: str, params: dict[str, str], reason: str | None) -> None:
    """A machine without the GPUs or with another torch says so, and nothing else is in the way."""
    packages = {**MACHINE.packages, "torch": torch}
    said = SCENARIO.requires(SCENARIO.complete(params), dataclasses.replace(MACHINE, gpus=gpus, packages=packages))
    assert (said is None) if reason is None else (said is not None and reason in said)
