"""The oracle of `dp_ep_deadlock` on literal records, and its matrix."""

from __future__ import annotations

from typing import Any

import pytest

from harness.attempt import Attempt, Mark, Process, Standing, Suspicion
from harness.events import ProcessKey
from harness.outcome import ExitStatus, StatusSource, VerdictName
from scenarios.dp_ep_deadlock import PATCHES, SCENARIO, SIGNATURE, oracle
from scenarios.programs.dp_ep_deadlock import DEFAULTS, EXTENSIONS, for_device, start_method

WORKER = ProcessKey(pid=50, start=1)
ANSWERED = {"tokens": [128, 128], "failed": 0, "tok_s": 900.0}


def hung(kind: str) -> Suspicion:
    """Return a suspicion of this class."""
    return Suspicion(suspicion=kind, reasons=("nothing has moved",), t_ns=5, keys=(WORKER,), proved=False)


def attempt(marks: dict[str, dict[str, Any]], *, hang: str = "", frames: tuple[str, ...] = (), signal: str = "",
            **params: str) -> Attempt:  # fmt: skip
    """Return an attempt with one worker that stood in the given frames, and died of the given signal."""
    status = ExitStatus(signal=signal, source=StatusSource.PIDFD) if signal else None
    worker = Process(
        key=WORKER, ppid=1, parent=None, names=("VLLM::Worker_DP0_EP0",), claimed_by="parent", born_ns=0, status=status
    )
    return Attempt(
        cell="c", attempt=1, params=SCENARIO.complete(params), started_ns=0, end="hang" if hang else "exited",
        nonce=not hang, processes=(worker,), suspicions=(hung(hang),) if hang else (),
        standing=(Standing(key=WORKER, thread="main", frames=frames, t_ns=4),),
        marks=tuple(Mark(name=name, pid=1, t_ns=0, data=data) for name, data in marks.items()),
    )  # fmt: skip


STOOD = ("all_reduce (distributed_c10d.py:3107)", "_run_ar (dp_utils.py:77)")
SAID = {"engines_said": {"words": ["NotImplementedError"]}}
RANK_FAILED = {"rank_failed": {"error": [{"type": "builtins.AssertionError", "text": ""}]}}
FAILED = {"stepping": {}, "answered": {**ANSWERED, "tokens": [0, 0], "failed": 2}}


@pytest.mark.parametrize(
    ("seen", "verdict", "signature"),
    [
        (attempt({"stepping": {}}, hang="waiting_for_peer", frames=STOOD), VerdictName.REPRODUCED, SIGNATURE),
        (
            attempt({"stepping": {}}, hang="waiting_for_peer", frames=("poll",)),
            VerdictName.OTHER_FAILURE,
            "hang: waiting_for_peer",
        ),
        (attempt({"stepping": {}}, hang="gpu_busy", frames=("item",)), VerdictName.OTHER_FAILURE, "hang: gpu_busy"),
        (attempt({}, hang="waiting_for_peer", frames=STOOD), VerdictName.OTHER_FAILURE, "hang: waiting_for_peer"),
        (attempt({"stepping": {}}, frames=STOOD), VerdictName.OTHER_FAILURE, "no rank stepped"),
        (attempt({"stepping": {}, "answered": ANSWERED}), VerdictName.ABSENT, None),
        (
            attempt({"stepping": {}, "answered": ANSWERED}, hang="waiting_for_peer", frames=STOOD),
            VerdictName.ABSENT,
            None,
        ),
        (attempt({"answered": {**ANSWERED, "tokens": [128, 0]}}), VerdictName.OTHER_FAILURE, "no rank stepped"),
        (attempt(FAILED | SAID | RANK_FAILED), VerdictName.OTHER_FAILURE, "NotImplementedError"),
        (attempt(FAILED | RANK_FAILED), VerdictName.OTHER_FAILURE, "AssertionError"),
        (attempt(FAILED | SAID, signal="SIGSEGV"), VerdictName.OTHER_FAILURE, "SIGSEGV in VLLM::Worker"),
    ],
)
def test_only_a_hang_in_the_all_reduce_of_the_ranks_is_the_failure(
    seen: Attempt, verdict: VerdictName, signature: str | None
) -> None:
    found = oracle(seen).verdict
    assert (found.name, found.signature) == (verdict, signature)


@pytest.mark.parametrize(("size", "effective"), [(2, "on"), (1, "off")])
def test_expert_parallelism_is_what_the_layers_have(size: int, effective: str) -> None:
    """The row says EP 1 where it is 1, whatever was asked for."""
    judged = oracle(attempt({"rank_ready": {"ep": size, "dp": 2, "layers": 4}, "answered": ANSWERED}))
    assert judged.effective == {"ep": effective, "ep_size": str(size), "dp_size": "2"}


def test_what_the_program_supplies_is_named_as_a_patch() -> None:
    supply = SCENARIO.axis("supply")
    assert supply is not None
    assert set(supply.values) == set(EXTENSIONS) == set(PATCHES)
    assert oracle(attempt({}, supply="all", api="AsyncLLM_patched")).patches[:2] == PATCHES["all"]
    assert len(oracle(attempt({}, supply="all", api="AsyncLLM_patched")).patches) == 4
    assert oracle(attempt({})).patches == ()


def test_gpus_get_kernels_that_need_no_compiler_and_ranks_that_were_not_forked() -> None:
    """A forked rank cannot use CUDA where its parent has; float32 and other kernels of experts are not tried there."""
    assert (for_device(DEFAULTS), start_method(DEFAULTS)) == ({}, "fork")
    for device in ("cuda", "rocm"):
        settings = {**DEFAULTS, "device": device}
        assert start_method(settings) == "spawn"
        assert for_device(settings) == {
            "dtype": "bfloat16", "moe_backend": "triton", "all2all_backend": "allgather_reducescatter",
        }  # fmt: skip


def test_the_program_and_the_matrix_have_the_same_defaults() -> None:
    assert SCENARIO.complete({}) == DEFAULTS


def test_every_control_is_the_control_of_a_row() -> None:
    ids = {SCENARIO.cell_id(row.params) for row in SCENARIO.rows}
    for row in SCENARIO.rows:
        control = SCENARIO.describe(SCENARIO.complete(row.params)).control_of
        assert control is None or SCENARIO.cell_id(control) in ids, row.params
