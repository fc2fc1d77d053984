"""From literal records to what is said of a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.attempt import Attempt, Leftover, Process, Suspicion
from harness.events import ProcessKey
from harness.outcome import ExitStatus, StatusSource
from harness.pytest_plugin.conclusions import conclude, last_words, without_pytest
from harness.pytest_plugin.marks import Guard, Policy

TOO_EARLY = "its process ended with exit code 0 before the test was over"
ROOT, CHILD = ProcessKey(10, 1), ProcessKey(11, 2)


def process(key: ProcessKey, status: ExitStatus | None, ended_by: str = "") -> Process:
    return Process(
        key=key,
        ppid=1,
        parent=None,
        names=("python a",),
        claimed_by="root",
        born_ns=0,
        status=status,
        ended_by=ended_by,
    )


def ended(code: int | None = None, signal: str | None = None) -> ExitStatus:
    return ExitStatus(exit_code=code, signal=signal, source=StatusSource.WAITPID)


def attempt(*processes: Process, end: str = "exited", nonce: bool = True, **more: Any) -> Attempt:  # noqa: ANN401 - fields
    return Attempt(
        cell="pytest[x]", attempt=1, params={}, started_ns=0, end=end, nonce=nonce, processes=processes, **more
    )


@pytest.mark.parametrize(
    ("found", "said_end", "failure"),
    [
        (attempt(process(ROOT, ended(0))), True, ""),
        (attempt(process(ROOT, ended(0)), nonce=False), True, TOO_EARLY),
        (attempt(process(ROOT, ended(0))), False, TOO_EARLY),
        (attempt(process(ROOT, ended(signal="SIGSEGV")), nonce=False), False, "its process died of SIGSEGV"),
        (attempt(process(ROOT, ExitStatus()), nonce=False), False, "its process has gone, nobody knows how"),
        (attempt(nonce=False), False, "its process has gone, nobody knows how"),
        (attempt(process(ROOT, ended(signal="SIGTERM")), end="deadline"), False, "timeout: still running after 3 s"),
    ],
)  # fmt: skip
def test_how_it_ended(found: Attempt, said_end: bool, failure: str) -> None:
    """Only the nonce and the end together are no failure."""
    assert conclude(found, Guard(timeout=3), ended=said_end).failure == failure


@pytest.mark.parametrize(("proved", "words"), [(True, " (proved)"), (False, "")])
def test_a_hang_says_whether_it_is_proved(proved: bool, words: str) -> None:
    doubt = Suspicion(suspicion="waiting_for_peer", reasons=("why",), t_ns=1, keys=(ROOT,), proved=proved)
    found = attempt(process(ROOT, ended(signal="SIGTERM")), end="hang", suspicions=(doubt,))
    assert conclude(found, Guard(), ended=False).failure == f"hang: waiting for peer{words}"


def test_what_is_left_fails_by_policy() -> None:
    doubt = Suspicion(suspicion="survivors", reasons=(), t_ns=1, keys=(CHILD,), proved=False)
    left = (
        Leftover(what="shm", name="psm_1", key=CHILD, bytes=5, reclaimed=True),
        Leftover(what="gpu_memory", name="pid 11 holds 512 MiB", key=None, bytes=512 << 20, reclaimed=False),
    )
    root, child = process(ROOT, ended(0)), process(CHILD, ended(signal="SIGTERM"), "stop:SIGTERM")
    found = conclude(
        attempt(root, child, suspicions=(doubt,), leftovers=left), Guard(gpu_memory=Policy.REPORT), ended=True
    )
    assert found.left == (
        "left behind: process 11 python a outlived the test (ended by SIGTERM)",
        "left behind: /dev/shm/psm_1, 5 bytes, removed",
    )
    assert found.noted == ("left behind on the GPU: pid 11 holds 512 MiB",)
    assert found.deaths == ()


def test_deaths_by_our_own_hand_are_not_named() -> None:
    own, other = process(CHILD, ended(signal="SIGKILL"), "stop:SIGKILL"), process(CHILD, ended(signal="SIGABRT"))
    assert conclude(attempt(process(ROOT, ended(0)), own), Guard(), ended=True).deaths == ()
    assert conclude(attempt(process(ROOT, ended(0)), other), Guard(), ended=True).deaths == (
        "process 11 python a died of SIGABRT",
    )


def test_stacks_begin_at_the_test() -> None:
    lines = [
        "stacks:", "- main (x.py:1)", "  run_test (child.py:80)", "  runtestprotocol (runner.py:1)",
        "  pytest_pyfunc_call (python.py:2)", "  test_it (test_it.py:3)", "  pytest_helper_of_mine (mine.py:4)",
    ]  # fmt: skip
    assert without_pytest(lines) == ["stacks:", "- … pytest …", *lines[5:]]
    assert without_pytest(["- a server (x.py:1)"]) == ["- a server (x.py:1)"]


def test_last_words_leave_pytest_out(tmp_path: Path) -> None:
    file = tmp_path / "fatal.txt"
    file.write_text('Fatal\n  File "/a/test_it.py", line 3\n  File "/b/site-packages/_pytest/python.py", line 1\n')
    assert last_words(file) == ["Fatal", '  File "/a/test_it.py", line 3']
    assert last_words(tmp_path / "none") == []
