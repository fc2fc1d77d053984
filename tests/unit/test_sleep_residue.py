"""The oracle of `sleep_residue` on literal records."""

from __future__ import annotations

from typing import Any

import pytest

from harness.attempt import Attempt
from harness.outcome import VerdictName
from scenarios.sleep_residue import oracle
from tests.unit.attempts import Said, attempt, error

ENGINE: Said = ("engine", {"vllm": "0.26.0", "graphs": "off"})


def slept(bare: int | None, awake: int | None, asleep: int | None) -> Said:
    """Return what the driver told of three moments."""
    return "memory", {"bare_mib": bare, "awake_mib": awake, "asleep_mib": asleep}


def woke(*, same: bool | None = True) -> Said:
    """Return what the program says after waking up."""
    return "woken", {"mib": 4600, "same_answer": same}


def run(*said: Said, **params: str) -> Attempt:
    return attempt({"level": "1", "keeps": "nothing", "graphs": "off", **params}, *said)


@pytest.mark.parametrize(
    ("said", "verdict", "signature"),
    [
        ((ENGINE, slept(520, 6700, 2750), woke()), VerdictName.REPRODUCED, "memory stays after sleep"),
        ((ENGINE, slept(520, 4600, 820), woke()), VerdictName.ABSENT, None),
        ((ENGINE, slept(520, 4600, 820), woke(same=None)), VerdictName.ABSENT, None),
        ((ENGINE, slept(520, 4600, 4600), woke()), VerdictName.OTHER_FAILURE, "sleep freed too little"),
        ((ENGINE, slept(520, 4600, 820)), VerdictName.OTHER_FAILURE, "the engine did not wake up"),
        ((ENGINE, slept(520, 4600, 820), woke(same=False)), VerdictName.OTHER_FAILURE, "another answer"),
        ((ENGINE, slept(None, None, None), woke()), VerdictName.UNTESTABLE, None),
        ((error("engine_failed", "ValueError", "cumem"),), VerdictName.OTHER_FAILURE, "engine failed"),
    ],
)
def test_what_stays_is_what_the_driver_lists_beyond_a_context(
    said: tuple[Any, ...], verdict: VerdictName, signature: str | None
) -> None:
    found = oracle(run(*said)).verdict
    assert found.name is verdict
    assert (signature or "") in (found.signature or "")


def test_a_buffer_is_called_the_patch_that_it_is() -> None:
    """A row in which the caller's own code holds memory says so; the others are vLLM's alone."""
    said = (ENGINE, slept(520, 6700, 2750), woke())
    assert oracle(run(*said, keeps="buffer")).patches == ("a worker extension that keeps a buffer",)
    assert oracle(run(*said)).patches == ()
