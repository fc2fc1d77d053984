"""Two cells never share a GPU unless they ask to; a wedged one is kept out, and the rest goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness import gpu_pool
from harness.gpu_pool import GpuPool, Loan
from harness.leases import lease
from harness.outcome import VerdictName
from harness.probes.gpu import ENDED, GpuDevice, GpuHolder, GpuSurvey

IDLE = (0, 0)


def gpu(index: int, used_mib: int = 0) -> GpuDevice:
    """Return a GPU with memory in use that no process accounts for."""
    return GpuDevice(index=index, uuid=f"GPU-{index}", vendor="nvidia", model="H200", memory_used_mib=used_mib)


def looks(*each: Sequence[int], holders: Sequence[GpuHolder] = ()) -> Callable[[], GpuSurvey]:
    """Return a probe that sees these MiB on its GPUs, look by look; the last look is seen for ever."""
    seen = iter(each[:-1])

    def look() -> GpuSurvey:
        devices = tuple(gpu(index, mib) for index, mib in enumerate(next(seen, each[-1])))
        return GpuSurvey(devices=devices, holders=tuple(holders), unavailable=(), notes=())

    return look


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let memory have a second to come back, and use lock files of our own."""
    monkeypatch.setenv("CRASHCART_LEASES", str(tmp_path / "leases"))
    monkeypatch.setattr(gpu_pool, "RETURN_S", 0.8)
    monkeypatch.setattr(gpu_pool, "POLL_S", 0.05)


def numbers(loan: Loan) -> list[int]:
    return [device.index for device in loan.gpus]


def test_a_cell_sees_its_own_gpu_alone() -> None:
    """The first clean one, and the variables for it."""
    with GpuPool(looks(IDLE), {}).lend(1, "cell") as loan:
        assert numbers(loan) == [0]
        assert loan.env == {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        with GpuPool(looks(IDLE), {}).lend(1, "another run") as other:
            assert numbers(other) == [1]


def test_a_second_run_waits_and_says_for_whom() -> None:
    """It gets the GPU when the first has let go of it, not before."""
    told: list[str] = []
    order: list[str] = []

    def second() -> None:
        with GpuPool(looks([0]), {}, tell=told.append).lend(1, "second") as loan:
            order.append(f"second has {numbers(loan)}")

    with GpuPool(looks([0]), {}).lend(1, "fork_after_init[start=fork]"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first ends")
    thread.join()
    assert order == ["first ends", "second has [0]"]
    assert "fork_after_init[start=fork]" in told[0]


def test_those_who_ask_to_share_do() -> None:
    """Two that share have the same GPU at once; one that does not share waits for both."""
    pool = GpuPool(looks([0]), {})
    with pool.lend(1, "a", shared=True) as one, pool.lend(1, "b", shared=True) as two:
        assert numbers(one) == numbers(two) == [0]
        stop = time.monotonic() + 0.2
        with lease([gpu(0)], 1, "alone", stop=lambda: time.monotonic() > stop) as alone:
            assert alone == ()


def test_memory_that_comes_back_is_waited_for() -> None:
    with (pool := GpuPool(looks([1500], [700], [0]), {})).lend(1, "cell") as loan:
        assert numbers(loan) == [0]
    assert not pool.quarantined


def test_a_wedged_gpu_is_quarantined_and_the_rest_goes_on() -> None:
    """Memory that nobody visible holds: the other GPU is lent, this one not again even when it looks clean."""
    pool = GpuPool(looks((1500, 0)), {})
    with pool.lend(1, "cell") as loan:
        assert numbers(loan) == [1]
        assert "quarantined: GPU 0: 1500 MiB" in loan.notes[0]
    with pool.lend(1, "next") as loan:
        assert numbers(loan) == [1]
        assert not loan.notes


def test_memory_of_a_process_that_has_ended_wedges_too() -> None:
    """The driver still lists it, and does not take its memory back."""
    holder = GpuHolder(pid=7, name="gone", mib=900, source="nvml", gpu="GPU-0", note=ENDED)
    with GpuPool(looks((900, 0), holders=[holder]), {}).lend(1, "cell") as loan:
        assert numbers(loan) == [1]


def test_a_cell_that_needs_the_quarantined_gpu_has_no_verdict() -> None:
    with GpuPool(looks((1500, 0)), {}).lend(2, "cell") as loan:
        assert loan.verdict is VerdictName.NO_VERDICT
        assert "2 GPUs are needed, and these are quarantined: GPU 0: 1500 MiB" in loan.reason


def test_memory_held_by_others_on_other_gpus_is_their_business() -> None:
    """A GPU that another run has leased is not looked at, and not quarantined."""
    pool = GpuPool(looks((1500, 0)), {})
    with lease([gpu(0)], 1, "another run"), pool.lend(1, "cell") as loan:
        assert numbers(loan) == [1]
    assert not pool.quarantined


def test_more_gpus_than_the_process_may_use_are_untestable() -> None:
    """Two on the machine, one visible."""
    with GpuPool(looks(IDLE), {"CUDA_VISIBLE_DEVICES": "1"}).lend(2, "cell") as loan:
        assert (loan.verdict, loan.reason) == (VerdictName.UNTESTABLE, "2 GPUs are needed; this process may use 1")


def test_ctrl_c_ends_the_waiting() -> None:
    with lease([gpu(0)], 1, "somebody"):
        until = time.monotonic() + 0.2
        with GpuPool(looks([0]), {}, stop=lambda: time.monotonic() > until).lend(1, "cell") as loan:
            assert loan.verdict is VerdictName.NO_VERDICT


def test_a_cell_without_gpus_is_never_held_up() -> None:
    """Nobody looks, nothing is leased."""
    with lease([gpu(0), gpu(1)], 2, "somebody"), GpuPool(looks(IDLE), {}).lend(0, "cell") as loan:
        assert loan == Loan()


def test_where_no_probe_tells_the_gpus_apart_the_cell_runs_and_the_record_says_so() -> None:
    with GpuPool(looks(()), {}).lend(1, "cell") as loan:
        assert (loan.gpus, loan.verdict) == ((), None)
        assert loan.notes
