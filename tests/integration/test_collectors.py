"""Collectors end, whatever they do, and the index says what became of each."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.events import AttemptStarted
from harness.outcome import VerdictName
from harness.probes.collectors import FOLDER, INDEX, Collection, Collector, variables
from harness.record import iterate_events
from harness.run import Request, run
from tests.toy import SCENARIO

HANGS = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    " time.sleep(600)"
)


def collector(name: str, program: str, **more: float) -> Collector:
    return Collector(name=name, argv=(sys.executable, "-c", program), **more)  # type: ignore[arg-type]


def test_one_that_hangs_is_cut_off_with_its_children_and_the_others_are_kept(tmp_path: Path) -> None:
    began = time.monotonic()
    collection = Collection(
        tmp_path,
        "after attempt 1 of x",
        (
            collector("hangs", HANGS, deadline_s=1.0),
            collector("works", "print('GPU 0')"),
            collector("fails", "raise SystemExit(3)"),
            Collector(name="absent", argv=("no-such-tool",), needs="tool:no-such-tool"),
        ),
    )
    index = {one.name: one for one in collection.wait().collectors}
    assert time.monotonic() - began < 10
    assert {name: one.status for name, one in index.items()} == {
        "hangs": "cut off",
        "works": "ok",
        "fails": "failed",
        "absent": "missing",
    }
    assert index["hangs"].detail == "no end after 1 s"
    assert index["fails"].detail == "exit code 3"
    assert (tmp_path / "works.txt").read_text() == "GPU 0\n"
    assert [one for one in psutil.process_iter() if "time.sleep(600)" in " ".join(_argv(one))] == []
    assert json.loads((tmp_path / INDEX).read_text())["moment"] == "after attempt 1 of x"


def test_it_ends_at_once_when_it_is_told_to(tmp_path: Path) -> None:
    collection = Collection(tmp_path, "now", (collector("hangs", HANGS, deadline_s=60.0),))
    began = time.monotonic()
    (one,) = collection.wait(lambda: True).collectors
    assert time.monotonic() - began < 5
    assert (one.status, one.detail) == ("cut off", "interrupted")


def test_no_value_of_a_variable_that_may_be_secret_is_recorded() -> None:
    shown = variables(
        {"NCCL_DEBUG": "INFO", "RAY_AUTH_TOKEN": "x", "VLLM_API_KEY": "y", "HOME": "/h", "RAY_ADDRESS": "a@b"}
    )
    assert shown == {
        "NCCL_DEBUG": "INFO",
        "RAY_AUTH_TOKEN": None,
        "VLLM_API_KEY": None,
        "HOME": None,
        "RAY_ADDRESS": None,
    }


def _argv(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def test_a_run_describes_the_machine_once_right_after_its_first_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cells fail and one passes: one description, of the first, and it is done before the next attempt begins."""
    slow = (collector("slow", "import time; time.sleep(1.5); print('GPU 0')"),)
    monkeypatch.setattr("harness.run.Collection", lambda folder, moment: Collection(folder, moment, slow))
    result = run(
        Request(
            scenarios=(SCENARIO,),
            selection={"behaviour": ("healthy", "silent", "crash")},
            out=tmp_path / "run",
            collect=True,
        )
    )
    failed = [row for row in result.rows if row.verdict is not VerdictName.ABSENT]
    assert len(failed) == 2
    folder = result.directory / FOLDER
    index = json.loads((folder / INDEX).read_text())
    assert index["moment"] == f"after attempt 1 of {failed[0].cell}"
    assert (folder / "slow.txt").read_text() == "GPU 0\n"
    starts = [event for event in iterate_events(result.directory) if isinstance(event, AttemptStarted)]
    later = next(event for event in starts if event.cell == failed[1].cell)
    assert later.wall_ns > index["wall_ns"] + 1.5e9


def test_a_run_without_a_failure_or_without_the_capability_describes_nothing(tmp_path: Path) -> None:
    cases: list[tuple[str, str, frozenset[str]]] = [
        ("a", "healthy", frozenset()),
        ("b", "silent", frozenset({"collectors"})),
    ]
    for name, behaviour, without in cases:
        request = Request(
            scenarios=(SCENARIO,),
            selection={"behaviour": (behaviour,)},
            out=tmp_path / name,
            collect=True,
            without=without,
        )
        assert not (run(request).directory / FOLDER).exists()
