"""The oracle of `rollout` on literal records, and its matrix."""

from __future__ import annotations

from typing import Any

import pytest

from harness.attempt import Attempt, Mark
from harness.outcome import VerdictName
from scenarios.rollout import DIED, SCENARIO, SIGNATURES, UNKNOWN_NAME, oracle
from tests.unit.test_plan import MACHINE

DONE: dict[str, Any] = {
    "conversations": 8, "finished": 8, "told": [], "lost": [], "tok_s": 700.0, "missed": 0,
    "prefix_cache": {"queries": 400.0, "hits": 100.0},
}  # fmt: skip
AGREED = ("agreement", {"share": 1.0})


def error(text: str) -> dict[str, Any]:
    """Return the data of an error mark."""
    return {"error": [{"type": "x.Error", "text": text}]}


BROKEN = {**DONE, "finished": 4, "told": ["BadRequestError: too long"] * 4, "prefix_cache": {}}
LOST = {**DONE, "finished": 4, "lost": ["c-1"], "prefix_cache": {}}


@pytest.mark.parametrize(
    ("fault", "marks", "verdict", "signature"),
    [
        ("none", [("rolled_out", DONE), AGREED], VerdictName.ABSENT, None),
        ("none", [("rolled_out", BROKEN), ("call_failed", error(DIED))], VerdictName.REPRODUCED, SIGNATURES["weak"]),
        ("none", [("rolled_out", BROKEN)], VerdictName.OTHER_FAILURE, "requests failed"),
        ("none", [("rolled_out", DONE), ("agreement", {"share": 0.5})], VerdictName.REPRODUCED, SIGNATURES["differ"]),
        ("none", [("rolled_out", DONE)], VerdictName.OTHER_FAILURE, "no comparison"),
        ("none", [("rolled_out", {**DONE, "missed": 3}), AGREED], VerdictName.REPRODUCED, SIGNATURES["missed"]),
        ("none", [], VerdictName.OTHER_FAILURE, "no rollout"),
        ("too_long", [("rolled_out", BROKEN)], VerdictName.ABSENT, None),
        ("too_long", [("rolled_out", LOST)], VerdictName.REPRODUCED, SIGNATURES["lost"]),
        ("too_long", [("rolled_out", DONE), AGREED], VerdictName.OTHER_FAILURE, "the fault had no effect"),
        (
            "name_lost",
            [("start_failed", error("no engine")), ("lookup_failed", error(UNKNOWN_NAME))],
            VerdictName.REPRODUCED,
            SIGNATURES["name"],
        ),
        ("name_lost", [("start_failed", error("no engine"))], VerdictName.OTHER_FAILURE, "start failed"),
    ],
)
def test_each_mechanism_has_its_own_signature(
    fault: str, marks: list[tuple[str, dict[str, Any]]], verdict: VerdictName, signature: str | None
) -> None:
    attempt = Attempt(
        cell="c", attempt=1, params={"fault": fault}, started_ns=0, end="exited", nonce=True,
        marks=tuple(Mark(name=name, pid=1, t_ns=0, data=data) for name, data in marks),
    )  # fmt: skip
    found = oracle(attempt).verdict
    assert (found.name, found.signature) == (verdict, signature)


def test_what_a_row_tells_besides_its_verdict() -> None:
    facts = {"executor": "a.b.NamedActorExecutor", "dtype": "float32", "hidden": "256"}
    marks = [("rolled_out", DONE), AGREED, ("server_ready", facts)]
    attempt = Attempt(
        cell="c", attempt=1, params={"fault": "none"}, started_ns=0, end="exited", nonce=True,
        marks=tuple(Mark(name=name, pid=1, t_ns=0, data=data) for name, data in marks),
    )  # fmt: skip
    judged = oracle(attempt)
    assert judged.effective == {"executor": "NamedActorExecutor", "servers": "1", "dtype": "float32", "hidden": "256"}
    assert judged.throughput == {
        "output_tok_s": 700.0, "requests_failed": 0.0, "prefix_cache_hit_rate": 0.25, "agreement": 1.0,
    }  # fmt: skip


def test_every_control_is_the_control_of_a_row() -> None:
    ids = {SCENARIO.cell_id(row.params) for row in SCENARIO.rows}
    for row in SCENARIO.rows:
        control = SCENARIO.describe(SCENARIO.complete(row.params)).control_of
        assert control is None or SCENARIO.cell_id(control) in ids, row.params


@pytest.mark.parametrize(
    ("params", "verdict", "control_of"),
    [
        ({"dtype": "bfloat16", "hidden": "2048"}, VerdictName.REPRODUCED, None),
        ({"hidden": "2048"}, VerdictName.ABSENT, {"dtype": "bfloat16", "hidden": "2048"}),
        ({"dtype": "bfloat16"}, VerdictName.ABSENT, {"dtype": "bfloat16", "hidden": "2048"}),
        ({"dtype": "bfloat16", "turns": "6", "mode": "async"}, VerdictName.ABSENT, None),
        ({"dtype": "bfloat16", "hidden": "2048", "device": "cuda"}, VerdictName.REPRODUCED, None),
        (
            {"dtype": "bfloat16", "hidden": "2048", "device": "cuda", "invariant": "on"},
            VerdictName.ABSENT,
            {"dtype": "bfloat16", "hidden": "2048", "device": "cuda"},
        ),
        ({"dtype": "bfloat16", "hidden": "2048", "device": "rocm"}, VerdictName.REPRODUCED, None),
    ],
)
def test_where_a_batch_is_rounded_otherwise(
    params: dict[str, str], verdict: VerdictName, control_of: dict[str, str] | None
) -> None:
    whole = SCENARIO.complete({"mode": "sync", **params})
    expectation = SCENARIO.expect(whole, MACHINE)
    assert expectation is not None
    assert expectation.verdict is verdict
    control = SCENARIO.describe(whole).control_of
    wanted = None if control_of is None else SCENARIO.cell_id(SCENARIO.complete({"mode": "sync", **control_of}))
    assert (None if control is None else SCENARIO.cell_id(control)) == wanted
