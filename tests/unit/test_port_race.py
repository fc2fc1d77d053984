"""The oracle of `port_race` on literal records."""

from __future__ import annotations

import pytest

from harness.judge import judge_attempt
from harness.outcome import VerdictName
from harness.plan import plan
from scenarios.port_race import SCENARIO, TAKEN, oracle
from tests.unit.attempts import Said, attempt, error
from tests.unit.test_plan import MACHINE

PICKED: Said = ("picked", {"scheme": "tcp", "bound": False, "port": 52891})
FILE: Said = ("picked", {"scheme": "file", "bound": False, "port": 49517})
STRANGER: Said = ("stranger", {"said": "taken"})
MET: Said = ("met", {"total": 2.0})
TAKEN_PORT = error(
    "not_met",
    "torch.distributed.DistNetworkError",
    "The server socket has failed to listen on any local network address. port: 52891, useIpv6: false, code: -98,"
    " name: EADDRINUSE, message: address already in use",
)
SLOW = error("not_met", "torch.distributed.DistNetworkError", "The client socket has timed out after 20000ms")


@pytest.mark.parametrize(
    ("said", "verdict", "signature"),
    [
        ((PICKED, STRANGER, TAKEN_PORT), VerdictName.REPRODUCED, TAKEN),
        ((PICKED, STRANGER, SLOW), VerdictName.OTHER_FAILURE, "not met:DistNetworkError"),
        ((PICKED, STRANGER, MET), VerdictName.ABSENT, None),
        ((PICKED, MET), VerdictName.ABSENT, None),
        ((PICKED, STRANGER), VerdictName.OTHER_FAILURE, "not met"),
        ((), VerdictName.OTHER_FAILURE, "nothing was picked"),
        ((FILE, STRANGER, MET), VerdictName.UNTESTABLE, None),
    ],
)
def test_only_a_taken_port_is_the_failure(said: tuple[Said, ...], verdict: VerdictName, signature: str | None) -> None:
    """By the rules of all oracles: a cell about TCP that met in a file has not been tested."""
    selection = {"rendezvous": ("tcp",), "taker": ("stranger",), "picker": ("vllm",)}
    (cell,) = plan([SCENARIO], MACHINE, suite="laptop", selection=selection)
    found = judge_attempt(cell, attempt(cell.params, *said), oracle).verdict
    assert (found.name, found.signature) == (verdict, signature)


def test_what_vllm_chooses_is_shown_and_not_asked_for() -> None:
    assert oracle(attempt(SCENARIO.complete({"rendezvous": "default"}), FILE, MET)).effective == {"met": "file"}
