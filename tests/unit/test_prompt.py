"""When the supervisor goes before ordinary threads: only while more of them want a processor than there are."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.probes.linux import CALM_LOOKS, Prompt, probe_realtime

BUSY = len(os.sched_getaffinity(0)) + 2
"""One thread more than processors, and the one that looks."""
RIGHT = pytest.mark.skipif(probe_realtime() is not None, reason=str(probe_realtime()))
CHILD = "import os; print(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)"


def policy() -> int:
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK


@RIGHT
def test_it_goes_first_while_processors_are_short() -> None:
    """One calm look does not end it, a second of them does; children never go first."""
    with Prompt(realtime=True) as prompt:
        assert policy() == os.SCHED_OTHER
        prompt.tell(BUSY - 1)
        assert policy() == os.SCHED_OTHER
        prompt.tell(BUSY)
        assert policy() == os.SCHED_RR
        child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
        assert int(child.stdout) == os.SCHED_OTHER
        for _ in range(CALM_LOOKS - 1):
            prompt.tell(1)
        assert policy() == os.SCHED_RR
        prompt.tell(1)
        assert policy() == os.SCHED_OTHER
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@RIGHT
def test_afterwards_all_is_as_before() -> None:
    before = (os.sched_getscheduler(0), sys.getswitchinterval())
    with Prompt(realtime=True) as prompt:
        prompt.tell(BUSY)
        assert sys.getswitchinterval() < before[1]
    assert (os.sched_getscheduler(0), sys.getswitchinterval()) == before
    prompt.tell(BUSY)
    assert os.sched_getscheduler(0) == before[0]


def test_it_never_goes_first_where_it_is_not_to() -> None:
    with Prompt(realtime=False) as prompt:
        prompt.tell(BUSY)
        assert policy() == os.SCHED_OTHER
