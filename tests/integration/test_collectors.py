"""Collectors end, whatever they do, and the index says what became of each."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import psutil

from harness.probes.collectors import INDEX, Collection, Collector, variables

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
