"""The expectations and the oracle of `nccl_destroy` on literal records, and the programs' reading of GPU memory.

The frames are those that two H200s showed (NCCL 2.28.9): `commDestroySync` is below `commReclaim` in both calls.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.attempt import Attempt, FaultRecord, Mark, Standing, Suspicion
from harness.events import ProcessKey
from harness.outcome import VerdictName
from harness.plan import plan
from scenarios.nccl_destroy import SCENARIO, oracle, stuck_in, where
from scenarios.nccl_destroy_matrix import CLEANUPS
from scenarios.programs import gpu_memory
from tests.unit.attempts import process
from tests.unit.test_plan import MACHINE

RANK_0 = ProcessKey(77, 5)
SECOND = 1_000_000_000
GRAPH_HANG = (
    "ncclCommPollCallbacks (libnccl.so)", "commDestroySync (libnccl.so)", "commReclaim (libnccl.so)",
    "ncclCommDestroy (libnccl.so)", "ffi_call (libffi.so)", "destroy (nccl_library.py:86)",
)  # fmt: skip
DESTROYING = ("destroying", 77, {"destroy": "destroy_main"})
SURVIVOR = ("survivor", 1, {"pid": 77, "mib": 1470, "alive_s": 20.0})
BACK = ("memory_back", 1, {"seconds": 0.8})
ENDED = ("rank_0_ended", 1, {"code": 0, "seconds": 1.1})
ABORTED = ("rank_0_ended", 1, {"code": -6, "seconds": 1.0})
ENGINE = (process(7, "VLLM::EngineCore"), process(8, "VLLM::Worker_TP0"), process(9, "VLLM::Worker_TP1"))
WORKERS = ("fault_now", 1, {"workers": [8, 9]})
FAMILY = ("family", 1, {"pids": [7, 8, 9]})
DESTROYED = ("destroyed", 77, {"seconds": 0.5, "thread_left": False})


def attempt(*marks: tuple[str, int, dict[str, Any]], noticed_s: float | None = None, **params: str) -> Attempt:
    """Return a finished attempt; rank 0 begins its destroy at 0 s and may be suspected later."""
    doubts = () if noticed_s is None else (
        Suspicion(suspicion="waiting_for_peer", reasons=(), t_ns=int(noticed_s * SECOND), keys=(RANK_0,), proved=False),
    )  # fmt: skip
    return Attempt(
        cell="c", attempt=1, params=SCENARIO.complete(params), started_ns=0, end="exited", nonce=True,
        marks=tuple(Mark(name=name, pid=pid, t_ns=0, data=data) for name, pid, data in marks),
        suspicions=doubts,
        standing=(Standing(key=RANK_0, thread="MainThread", frames=GRAPH_HANG, t_ns=0),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("marks", "noticed_s", "verdict", "signature"),
    [
        ([DESTROYING, SURVIVOR, BACK], 9.0, VerdictName.REPRODUCED, "hang in ncclCommDestroy"),
        ([DESTROYING, SURVIVOR, BACK], 15.5, VerdictName.OTHER_FAILURE, "missed: ncclCommDestroy hung"),
        ([DESTROYING, SURVIVOR, BACK], None, VerdictName.OTHER_FAILURE, "missed: ncclCommDestroy hung"),
        ([DESTROYING, DESTROYED, ENDED], None, VerdictName.ABSENT, None),
        (
            [DESTROYING, ("rank_0_ended", 1, {"code": -6, "seconds": 1.0})],
            None,
            VerdictName.OTHER_FAILURE,
            "rank 0 failed",
        ),
        ([DESTROYING, ENDED], None, VerdictName.OTHER_FAILURE, "rank 0 failed"),
        ([], None, VerdictName.OTHER_FAILURE, "never came to it"),
    ],
)
def test_a_hang_must_be_there_and_be_noticed(
    marks: list[tuple[str, int, dict[str, Any]]], noticed_s: float | None, verdict: VerdictName, signature: str | None
) -> None:
    """The survivor is what the program saw, the notice is the supervisor's, and the place is the stack's."""
    found = oracle(attempt(*marks, noticed_s=noticed_s)).verdict
    assert (found.name, found.signature) == (verdict, signature)


def test_the_row_says_where_how_much_and_when_it_came_back() -> None:
    """The frames below the call, the pid with its MiB, and the seconds are in the reasons."""
    reasons = " | ".join(oracle(attempt(DESTROYING, SURVIVOR, BACK, noticed_s=9.0)).verdict.reasons)
    for part in ("9.0 s", "ncclCommPollCallbacks", "commDestroySync", "pid 77 held 1470 MiB", "came back 0.8 s"):
        assert part in reasons


def test_a_suspicion_of_another_rank_is_no_notice() -> None:
    """A stopped peer is suspected, too; that says nothing of rank 0."""
    hung = attempt(DESTROYING, SURVIVOR, BACK, noticed_s=9.0)
    other = dataclasses.replace(hung.suspicions[0], keys=(ProcessKey(78, 5),))
    assert oracle(dataclasses.replace(hung, suspicions=(other,))).verdict.name is VerdictName.OTHER_FAILURE


def test_the_place_is_found_in_any_thread_of_that_process_only() -> None:
    """An abort on a thread stands there, and the frames of another process do not count."""
    waiting = Standing(key=RANK_0, thread="MainThread", frames=("lock_acquire",), t_ns=0)
    abort = Standing(key=RANK_0, thread="abort", frames=("commReclaim", "ncclCommAbort", "run"), t_ns=0)
    assert where((waiting, abort), 77) == ("ncclCommAbort", "commReclaim")
    assert where((waiting, abort), 78)[0] == "an unknown call"


KILLED = FaultRecord(fault="kill_core", attempted_ns=0, confirmed=True)


@pytest.mark.parametrize(
    ("marks", "faults", "verdict"),
    [
        ([("engine", {"captured": [3, 3]}), ("workers", {"left": [], "seconds": 4.0})], (KILLED,), VerdictName.ABSENT),
        (
            [
                ("engine", {"captured": [3, 3]}),
                ("workers", {"left": [9], "seconds": 25.0}),
                ("survivor", {"pid": 9, "mib": 1518, "alive_s": 25.0}),
            ],
            (KILLED,),
            VerdictName.REPRODUCED,
        ),
        (
            [("engine", {"captured": [0, 0]}), ("workers", {"left": [], "seconds": 4.0})],
            (KILLED,),
            VerdictName.UNTESTABLE,
        ),
        ([("engine", {"captured": [3, 3]}), ("workers", {"left": [], "seconds": 4.0})], (), VerdictName.OTHER_FAILURE),
    ],
)
def test_workers_of_an_engine(
    marks: list[tuple[str, dict[str, Any]]], faults: tuple[FaultRecord, ...], verdict: VerdictName
) -> None:
    """A survivor counts only after the kill was delivered, and a pass only if the graphs were there."""
    said = ((name, 1, data) for name, data in marks)
    base = attempt(WORKERS, *said, layer="vllm_tp2", destroy="shipped", graphs="1")
    assert oracle(dataclasses.replace(base, faults=faults, processes=ENGINE)).verdict.name is verdict


@pytest.mark.parametrize(
    ("marks", "verdict", "signature"),
    [
        ([("actor_gone", {"pid": 5}), ("workers", {"left": [], "seconds": 0.3})], VerdictName.ABSENT, None),
        (
            [
                ("actor_gone", {"pid": 5}),
                ("workers", {"left": [8, 9], "seconds": 25.0}),
                ("survivor", {"pid": 8, "title": "VLLM::EngineCore", "mib": 900, "alive_s": 25.0}),
                ("survivor", {"pid": 9, "title": "VLLM::Worker_TP0", "mib": 1518, "alive_s": 25.0}),
            ],
            VerdictName.REPRODUCED,
            "engine survives",
        ),
        (
            [
                ("actor_gone", {"pid": 5}),
                ("workers", {"left": [77], "seconds": 25.0}),
                ("survivor", {"pid": 77, "title": "VLLM::Worker_TP0", "mib": 1518, "alive_s": 25.0}),
            ],
            VerdictName.REPRODUCED,
            "workers survive",
        ),
        ([("workers", {"left": [], "seconds": 0.3})], VerdictName.OTHER_FAILURE, "fault not delivered"),
    ],
)
def test_an_engine_in_an_actor(
    marks: list[tuple[str, dict[str, Any]]], verdict: VerdictName, signature: str | None
) -> None:
    """Whether the EngineCore or only its workers are left tells apart who has cleaned up; the actor must be gone."""
    engine = ("engine", 1, {"captured": [3, 3], "vllm": "0.26.0"})
    said = ((name, 1, data) for name, data in marks)
    found = attempt(engine, FAMILY, *said, layer="ray_tp2", destroy="shipped", graphs="1")
    judged = oracle(dataclasses.replace(found, processes=ENGINE)).verdict
    assert (judged.name, judged.signature) == (verdict, signature)


@pytest.mark.parametrize(
    ("layer", "pids", "reasons"),
    [
        ("ray_tp2", [7, 8, 9], ("all its processes were gone 0 s after the end of the actor, which was killed",)),
        ("ray_tp2", [], ("the program saw 0 of 1 VLLM::EngineCore", "the program saw 0 of 2 VLLM::Worker")),
        ("ray_tp2", [7, 8], ("the program saw 1 of 2 VLLM::Worker",)),
        ("vllm_tp2", [8, 9], ("all its processes were gone 0 s after the end of the EngineCore, which was killed",)),
        ("vllm_tp2", [], ("the program saw 0 of 2 VLLM::Worker",)),
    ],
)
def test_of_whom_the_program_did_not_see_nothing_is_said(layer: str, pids: list[int], reasons: tuple[str, ...]) -> None:
    """Where setproctitle failed nobody has a title, nobody is waited for, and nobody survives: that is no pass."""
    marks: list[tuple[str, int, dict[str, Any]]] = [
        ("engine", 1, {"captured": [3, 3]}), ("family", 1, {"pids": pids}), ("fault_now", 1, {"workers": pids}),
        ("actor_gone", 1, {"pid": 5}), ("workers", 1, {"left": [], "seconds": 0}),
    ]  # fmt: skip
    found = attempt(*marks, layer=layer, destroy="shipped", graphs="1")
    judged = oracle(dataclasses.replace(found, faults=(KILLED,), processes=ENGINE)).verdict
    assert judged.reasons == reasons
    assert judged.signature == (None if "all its" in reasons[0] else "engine not seen")


def test_a_survivor_whose_stack_was_taken_says_where_it_stands() -> None:
    found = attempt(
        ("engine", 1, {"captured": [3, 3]}),
        FAMILY,
        ("actor_gone", 1, {"pid": 5}),
        ("workers", 1, {"left": [77], "seconds": 25.0}),
        ("survivor", 1, {"pid": 77, "title": "VLLM::Worker_TP0", "mib": 1518, "alive_s": 25.0}),
        layer="ray_tp2", destroy="shipped", graphs="1",
    )  # fmt: skip
    (reason,) = oracle(dataclasses.replace(found, processes=ENGINE)).verdict.reasons
    assert "VLLM::Worker_TP0 (pid 77) held 1518 MiB 25 s later, in ncclCommDestroy, below it" in reason


@pytest.mark.parametrize(
    ("read", "cleanup"),
    [(CLEANUPS["off"], "off"), ({}, "default"), ({"RAY_x": "1"}, "{'RAY_x': '1'}"), (None, None)],
)
def test_rays_settings_are_read_off_the_raylet(read: dict[str, str] | None, cleanup: str | None) -> None:
    """What differs from what was asked for makes a row untestable, by the rule for all axes."""
    found = attempt(
        ("engine", 1, {"captured": [3, 3], "cleanup": read}),
        FAMILY,
        ("actor_gone", 1, {"pid": 5}),
        ("workers", 1, {"left": [7], "seconds": 25.0}),
        ("survivor", 1, {"pid": 7, "title": "VLLM::EngineCore", "mib": None, "alive_s": 25.0}),
        layer="ray_tp2", destroy="shipped", graphs="1", cleanup="off",
    )  # fmt: skip
    judged = oracle(dataclasses.replace(found, processes=ENGINE))
    assert judged.verdict.signature == "engine survives"
    assert judged.verdict.reasons == ("VLLM::EngineCore (pid 7) was there 25 s later",)
    assert judged.effective.get("cleanup") == cleanup


def test_rays_settings_decide_who_is_left() -> None:
    """Ray ends the actor's children and its group, workers included; the children alone are enough from 0.22 on."""
    cells = plan(
        [SCENARIO], dataclasses.replace(MACHINE, packages={**MACHINE.packages, "vllm": "0.26.0", "ray": "2.60.0"}),
        suite="gpu-full", selection={"layer": ("ray_tp2",)},
    )  # fmt: skip
    found = {(cell.params["vllm"], cell.params["cleanup"]): cell.expected for cell in cells}
    assert found == {
        ("installed", "off"): VerdictName.REPRODUCED,
        ("installed", "default"): VerdictName.ABSENT,
        ("installed", "direct"): VerdictName.ABSENT,
        ("installed", "subreaper"): VerdictName.ABSENT,
        ("installed", "group"): VerdictName.ABSENT,
        ("0.21.0", "direct"): VerdictName.REPRODUCED,
        ("0.21.0", "default"): VerdictName.ABSENT,
        ("0.21.0", "group"): VerdictName.ABSENT,
    }
    assert all(cell.control_of for cell in cells if cell.expected is VerdictName.ABSENT)


def test_expectations_follow_the_release_of_vllm() -> None:
    """0.21 destroys on the main thread, 0.22 aborts on another one: the same cell, the other verdict."""
    selection = {"layer": ("pynccl",), "destroy": ("shipped",), "graphs": ("1",), "vllm": ("installed",)}
    for vllm, verdict in (("0.21.0", VerdictName.REPRODUCED), ("0.22.0", VerdictName.ABSENT)):
        machine = dataclasses.replace(MACHINE, packages={**MACHINE.packages, "vllm": vllm})
        (cell,) = plan([SCENARIO], machine, selection=selection)
        assert cell.expected is verdict


def test_an_old_engine_hangs_only_with_the_runner_that_keeps_its_graphs() -> None:
    """Two things are needed: the destroy of 0.21, and graphs that are still there then; each has its control."""
    machine = dataclasses.replace(MACHINE, packages={**MACHINE.packages, "vllm": "0.26.0"})
    selection = {"layer": ("vllm_tp2",), "vllm": ("0.21.0", "0.22.0")}
    cells = plan([SCENARIO], machine, suite="gpu-full", selection=selection)
    found = {(cell.params["vllm"], cell.params["runner"]): cell for cell in cells}
    hanging = found.pop(("0.21.0", "v2"))
    assert hanging.expected is VerdictName.REPRODUCED
    assert set(found) == {("0.22.0", "v2"), ("0.21.0", "v1")}
    for control in found.values():
        assert (control.expected, control.control_of) == (VerdictName.ABSENT, hanging.id)
    assert SCENARIO.launch(hanging.params, machine).env["VLLM_USE_V2_MODEL_RUNNER"] == "1"
    assert "only an engine" in str(SCENARIO.requires(SCENARIO.complete({"runner": "v2"}), machine))


@pytest.mark.parametrize(
    ("asked", "found", "verdict"),
    [
        ("v2", "v2", VerdictName.ABSENT),
        ("v2", "v1", VerdictName.UNTESTABLE),
        ("v1", "v2", VerdictName.UNTESTABLE),
        ("default", "v1", VerdictName.ABSENT),
    ],
)
def test_an_engine_with_another_runner_says_nothing(asked: str, found: str, verdict: VerdictName) -> None:
    """The runner that counts is the one that the workers really have, and it is part of what was effective."""
    engine = ("engine", 1, {"captured": [3, 3], "vllm": "0.21.0", "runner": found})
    seen = attempt(
        engine, WORKERS, ("workers", 1, {"left": [], "seconds": 4.0}),
        layer="vllm_tp2", destroy="shipped", graphs="1", runner=asked,
    )  # fmt: skip
    judgement = oracle(dataclasses.replace(seen, faults=(KILLED,), processes=ENGINE))
    assert judgement.verdict.name is verdict
    assert judgement.effective.get("runner") == (None if asked == "default" else found), "no axis was asked for"


def test_only_what_holds_a_graph_or_waits_for_a_rank_hangs() -> None:
    """Abort copes with a collective that is on its way and with peers, not with a graph; a thread copes with all."""
    stuck = {
        (destroy, graphs, collective, peer): stuck_in(
            {"destroy": destroy, "graphs": graphs, "collective": collective, "peer": peer}
        )
        for destroy in ("destroy_main", "abort_main", "abort_thread", "none")
        for graphs in ("0", "8")
        for collective in ("none", "pending")
        for peer in ("destroys", "exits", "SIGKILL", "SIGSTOP", "alive")
    }
    hangs = {key for key, call in stuck.items() if call}
    assert {key[0] for key in hangs} == {"destroy_main", "abort_main"}
    assert {key for key in stuck if key[0] in {"destroy_main", "abort_main"} and key[1] == "8"} < hangs
    assert {key for key in hangs if key[1] == "0"} == {
        ("destroy_main", "0", "none", "SIGSTOP"), ("destroy_main", "0", "none", "alive"),
        *(("destroy_main", "0", "pending", peer) for peer in ("destroys", "exits", "SIGKILL", "SIGSTOP", "alive")),
    }  # fmt: skip


def test_gpu_memory_is_summed_per_process() -> None:
    """One line per GPU and process; a figure that the driver does not give counts as nothing, the process is listed."""
    assert gpu_memory.parse("77, 1470\n77, 30\n78, [N/A]\n\nNo running processes found\n") == {77: 1500, 78: 0}


def test_a_release_that_is_asked_for_counts_before_the_installed_one() -> None:
    """Two releases beside each other on one machine: the older hangs, the newer is its control."""
    machine = dataclasses.replace(MACHINE, packages={**MACHINE.packages, "vllm": "0.26.0"})
    selection = {"layer": ("pynccl",), "destroy": ("shipped",), "vllm": ("0.21.0", "0.22.0")}
    old, new = plan([SCENARIO], machine, suite="gpu-full", selection=selection)
    assert (old.expected, new.expected) == (VerdictName.REPRODUCED, VerdictName.ABSENT)
    assert new.control_of == old.id
    assert SCENARIO.launch(old.params, machine).overlays == {"vllm": "0.21.0"}
