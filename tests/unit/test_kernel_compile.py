"""How long nvcc was at work, by a literal record."""

from __future__ import annotations

import dataclasses

from benchmarks.kernel_compile import compiled_s, noticed_s
from harness.attempt import Attempt, Mark, Suspicion
from harness.events import ProcessKey
from tests.unit.attempts import S, process


def test_only_the_parts_of_nvcc_count_and_none_twice() -> None:
    """Two at once count once; gcc before and the linker after do not count."""
    attempt = Attempt(
        cell="c", attempt=1, params={}, started_ns=0, end="exited",
        processes=(
            process(1, "gcc -c early.c", born_s=0, died_s=100),
            process(2, "/usr/local/cuda/bin/../nvvm/bin/cicc --c++17", born_s=110, died_s=150),
            process(3, "ptxas -arch sm_90a", born_s=140, died_s=160),
            process(4, "cudafe++ --c++17", born_s=200, died_s=205),
            process(5, "sh -c -- cicc", born_s=300, died_s=400),
            process(6, "ld -o kernels.so", born_s=500, died_s=600),
        ),
    )  # fmt: skip
    assert compiled_s(attempt) == 55.0


def test_a_suspicion_of_another_process_is_not_that_of_the_compiler() -> None:
    def doubt(pid: int, at_s: int) -> Suspicion:
        return Suspicion(suspicion="stopped", reasons=(), t_ns=at_s * S, keys=(ProcessKey(pid, 1),), proved=True)

    other = Attempt(
        cell="c", attempt=1, params={}, started_ns=0, end="exited", suspicions=(doubt(8, 31),),
        marks=(Mark(name="stopped", pid=1, t_ns=30 * S, data={"pid": 7}),),
    )  # fmt: skip
    assert noticed_s(other) is None
    assert noticed_s(dataclasses.replace(other, suspicions=(doubt(8, 31), doubt(7, 38)))) == 8.0
    assert noticed_s(dataclasses.replace(other, marks=())) is None
