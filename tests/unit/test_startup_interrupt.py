"""The oracle of `startup_interrupt` on literal records: told from the ledger alone."""

from __future__ import annotations

import subprocess

import pytest

from harness.attempt import FaultRecord, Process
from harness.outcome import VerdictName
from scenarios.programs import startup_interrupt as program
from scenarios.programs import vllm_server
from scenarios.startup_interrupt import NOT_OBEYED, SCENARIO, oracle
from tests.unit.attempts import Said, attempt, fault, process

AFTERMATH: Said = ("aftermath", {"alive": [], "seconds": 9.0, "code": None, "came_up": False})
CAME_UP: Said = ("aftermath", {"alive": [], "seconds": 9.0, "code": None, "came_up": True})
SIGNAL = fault(2, "term_server", at_s=10)


def tree(host: float | None, core: float | None, worker: float | None, *, ended_by: str = "") -> tuple[Process, ...]:
    """Return host, EngineCore and worker, and when they died, in seconds; the signal comes after 10 s."""
    return (
        process(2, "python -m vllm.entrypoints.openai.api_server", died_s=host, ended_by=ended_by),
        process(3, "VLLM::EngineCore", died_s=core, ended_by=ended_by, signal="SIGKILL"),
        process(4, "VLLM::Worker", died_s=worker, ended_by=ended_by, signal="SIGKILL"),
    )


@pytest.mark.parametrize(
    ("processes", "faults", "verdict", "signature"),
    [
        (tree(11, 12, 12), (SIGNAL,), VerdictName.ABSENT, None),
        (tree(11, 12, 17.5), (SIGNAL,), VerdictName.ABSENT, None),
        (tree(21, 12, 12), (SIGNAL,), VerdictName.ABSENT, None),
        (tree(25.5, 12, 12), (SIGNAL,), VerdictName.REPRODUCED, NOT_OBEYED),
        (tree(None, None, None), (SIGNAL,), VerdictName.REPRODUCED, NOT_OBEYED),
        (tree(12, 12, 12, ended_by="stop:SIGTERM"), (SIGNAL,), VerdictName.REPRODUCED, NOT_OBEYED),
        (tree(10.1, None, None), (SIGNAL,), VerdictName.REPRODUCED, "orphaned EngineCore+Worker"),
        (tree(10.1, 11, 30), (SIGNAL,), VerdictName.REPRODUCED, "orphaned Worker"),
        (tree(11, 12, 12), (), VerdictName.OTHER_FAILURE, "no signal was sent"),
        ((), (SIGNAL,), VerdictName.OTHER_FAILURE, "no signal was sent"),
    ],
)
def test_who_lives_on_decides(
    processes: tuple[Process, ...], faults: tuple[FaultRecord, ...], verdict: VerdictName, signature: str | None
) -> None:
    """What our own stop ladder had to end has lived on."""
    found = oracle(attempt(SCENARIO.complete({}), AFTERMATH, processes=processes, faults=faults)).verdict
    assert (found.name, found.signature) == (verdict, signature)


@pytest.mark.parametrize(("moment", "verdict"), [("start", VerdictName.REPRODUCED), ("ready", VerdictName.ABSENT)])
def test_an_engine_that_comes_up_after_the_signal_tells_at_once(moment: str, verdict: VerdictName) -> None:
    """It says nothing where the engine was up before."""
    params = SCENARIO.complete({"moment": moment})
    assert oracle(attempt(params, CAME_UP, processes=tree(12, 12, 12), faults=(SIGNAL,))).verdict.name is verdict


@pytest.mark.parametrize(
    ("gpus", "named", "comes"),
    [(0, "VLLM::Worker", True), (0, "VLLM::EngineCore", False), (1, "VLLM::EngineCore", True), (1, "vllm", False)],
)
def test_the_signal_comes_when_the_innermost_process_has_its_name(
    monkeypatch: pytest.MonkeyPatch, gpus: int, named: str, comes: bool
) -> None:
    """On one GPU there is no worker beside the EngineCore; a host that ends before is said so."""
    monkeypatch.setattr(vllm_server, "leased_gpus", lambda: gpus)
    monkeypatch.setattr(program, "titles", lambda _: [{"pid": 1, "name": named}])
    with subprocess.Popen(["true"]) as process:
        process.wait()
        if comes:
            program.come_to("start", "server", process)
            return
        with pytest.raises(RuntimeError, match="the server never came to its start"):
            program.come_to("start", "server", process)
