"""A function as the program of an attempt: a fork that has nothing of its supervisor's and says how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import child
from harness.attempt import Attempt
from harness.events import Event
from harness.probes.cgroup import Group
from harness.record import build_attempt
from harness.spec import OnHang
from harness.supervise.hang import QUIET_S
from harness.supervise.loop import Command, Interrupts, supervise
from harness.supervise.observer import Observer

Run = Callable[..., Attempt]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that supervises a function."""

    def start(function: Callable[[], int], *, quiet_s: float = QUIET_S) -> Attempt:
        facts: list[Event] = []
        command = Command(
            argv=("function", function.__name__),
            env={"MINE": "yes"},
            folder=tmp_path,
            scratch=tmp_path,
            nonce="word",
            deadline_s=60,
            on_hang=OnHang.KILL,
            quiet_s=quiet_s,
            function=function,
        )
        with Interrupts() as interrupts:
            supervise(command, facts.append, interrupts)
        return build_attempt("function", 1, {}, facts)

    return start


def test_it_has_its_own_session_and_nothing_of_the_supervisor(run: Run) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    switch = sys.getswitchinterval()

    def function() -> int:
        same = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
        child.mark(
            "seen",
            session=os.getsid(0) == os.getpid(),
            handlers=same,
            descriptors=len(list(Path("/proc/self/fd").iterdir())),
            switch=sys.getswitchinterval(),
            mine=os.environ["MINE"],
            threads=threading.active_count(),
        )
        child.finish()
        return 7

    attempt = run(function)
    seen = attempt.mark("seen")
    assert seen is not None
    assert seen.data == {
        "session": True, "handlers": True, "descriptors": descriptors, "switch": switch, "mine": "yes", "threads": 1,
    }  # fmt: skip
    assert attempt.nonce
    assert [process.status.describe() for process in attempt.processes if process.status] == ["exit 7"]


def test_an_exception_never_runs_on_into_the_code_of_the_parent(run: Run) -> None:
    def function() -> int:
        raise SystemExit(0)

    attempt = run(function)
    assert [process.status.describe() for process in attempt.processes if process.status] == ["exit 70"]
    assert not attempt.nonce


def test_an_entry_of_shm_is_attributed_although_it_was_held_for_a_moment(run: Run) -> None:
    """Far shorter than the supervisor's looks: the kernel tells of the entry when it appears."""
    name = Path(f"/dev/shm/crashcart-moment-{os.getpid()}")

    def function() -> int:
        with name.open("wb") as file:
            file.write(b"x" * 100)
            file.flush()
            time.sleep(0.03)
        return 0

    attempt = run(function)
    assert [(left.name, left.bytes, left.reclaimed) for left in attempt.leftovers] == [(name.name, 100, True)]
    assert not name.exists()


def test_a_declared_hang_is_as_quick_as_it_was_declared_to_be(run: Run) -> None:
    def function() -> int:
        with child.phase("work"):
            while True:
                pass

    attempt = run(function, quiet_s=2)
    assert attempt.end == "hang"
    assert attempt.wall_s < QUIET_S


def test_a_child_of_the_first_moment_is_seen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the kernel takes to move the program into its cgroup, the supervisor is looking meanwhile."""
    add = Group.add

    def slow(self: Group, pid: int) -> None:
        time.sleep(0.3)
        add(self, pid)

    def function() -> int:
        first = os.fork()
        if first == 0:
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(first, 0)
        return 0

    monkeypatch.setattr(Group, "add", slow)
    (first,) = run(function).processes[1:]
    assert first.status is not None
    assert first.status.signal == "SIGKILL"


def test_the_number_of_a_former_helper_hides_nobody(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools for stacks come and go, and the kernel gives their numbers to others: here every number was one of them."""

    class Everybody(set[int]):
        def __contains__(self, pid: object) -> bool:
            return True

    class AfterManyTools(Observer):
        def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 - handed on
            super().__init__(*arguments)
            self.helpers = Everybody()

    monkeypatch.setattr("harness.supervise.loop.Observer", AfterManyTools)

    def function() -> int:
        for _ in range(3):
            subprocess.run(["sleep", "0.2"], check=True)
        child.finish()
        return 0

    assert [process.name for process in run(function).processes].count("sleep 0.2") == 3
