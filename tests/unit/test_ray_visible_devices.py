"""The oracle of `ray_visible_devices` on literal records, and what the variables of its cells are."""

from __future__ import annotations

import pytest

from harness.outcome import VerdictName
from scenarios.ray_visible_devices import NOTHING, ROCR, SCENARIO, SHARED, launch, oracle
from tests.unit.attempts import Said, attempt, error
from tests.unit.test_plan import MACHINE

HOST: Said = ("host", {"ray": "2.60.0", "variable": "CUDA_VISIBLE_DEVICES", "visible": "4,5"})
NVIDIA: Said = ("manager", {"manager": "NvidiaGPUAcceleratorManager"})


def actor(assigned: list[str], child: str | None) -> Said:
    """Return what one actor says."""
    return "actor", {"assigned": assigned, "here": child, "child": child, "pid": 9}


OWN = (actor(["4"], "4"), actor(["5"], "5"))


@pytest.mark.parametrize(
    ("said", "verdict", "signature"),
    [
        (OWN, VerdictName.ABSENT, None),
        ((actor(["4"], "4,5"), actor(["5"], "4,5")), VerdictName.REPRODUCED, SHARED),
        ((actor(["4"], "4"), actor(["4"], "4")), VerdictName.ABSENT, None),
        ((actor([], "4,5"), actor([], "4,5")), VerdictName.ABSENT, None),
        ((actor([], ""), actor([], "")), VerdictName.REPRODUCED, NOTHING),
        ((actor([], None), actor([], None)), VerdictName.REPRODUCED, NOTHING),
        ((actor(["4"], "5"), actor(["5"], "4")), VerdictName.OTHER_FAILURE, "other devices than assigned"),
        ((actor(["4"], "4"),), VerdictName.OTHER_FAILURE, "no answer"),
        ((*OWN, ("first_devices", {"uuids": ["GPU-a", "GPU-b"]})), VerdictName.ABSENT, None),
        ((*OWN, ("first_devices", {"uuids": ["GPU-a", "GPU-a"]})), VerdictName.REPRODUCED, SHARED),
        (
            (
                error(
                    "failed", "builtins.RuntimeError", "Please use HIP_VISIBLE_DEVICES instead of ROCR_VISIBLE_DEVICES"
                ),
            ),
            VerdictName.REPRODUCED,
            ROCR,
        ),
        ((error("failed", "builtins.RuntimeError", "something else"),), VerdictName.OTHER_FAILURE, "no answer"),
    ],
)
def test_what_was_assigned_is_compared_with_what_a_child_sees(
    said: tuple[Said, ...], verdict: VerdictName, signature: str | None
) -> None:
    found = oracle(attempt(SCENARIO.complete({}), HOST, NVIDIA, *said)).verdict
    assert (found.name, found.signature) == (verdict, signature)


def test_the_vendor_that_ray_takes_the_gpus_for_is_effective() -> None:
    """A cell about AMD that Ray ran with NVIDIA's manager is not testable; the rules of all oracles see to that."""
    effective = oracle(attempt(SCENARIO.complete({"vendor": "amd"}), HOST, NVIDIA, *OWN)).effective
    assert effective == {"vendor": "nvidia"}


@pytest.mark.parametrize(
    ("params", "env"),
    [
        ({}, {"CUDA_VISIBLE_DEVICES": "4,5"}),
        ({"noset": "true"}, {"CUDA_VISIBLE_DEVICES": "4,5", "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}),
        ({"vendor": "amd"}, {"HIP_VISIBLE_DEVICES": "4,5"}),
        ({"vendor": "amd", "selector": "rocr"}, {"ROCR_VISIBLE_DEVICES": "4,5"}),
        ({"device": "real"}, {"CUDA_VISIBLE_DEVICES": "0,1"}),
    ],
)
def test_the_scheduler_sets_one_variable(params: dict[str, str], env: dict[str, str]) -> None:
    assert launch(SCENARIO.complete(params), MACHINE).env == env
