"""A bundle of a real run: its one file shows the failure, and its control passes, in a folder of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from harness.environments import overlay
from tests.integration.test_cli import crashcart

pytestmark = pytest.mark.real_stack


def test_the_reproducer_of_an_actor_gc_bundle_fails_and_its_control_passes(tmp_path: Path) -> None:
    options = ("-p", "verl=0.3.0.post1", "-p", "call=idle", "-p", "lifetime=default", "--out", "run")
    done = crashcart("run", "actor_gc", *options, cwd=tmp_path, timeout=300)
    if "is not installed" in done.stdout:
        pytest.skip("the CPU stack is not complete")
    assert done.returncode == 0, done.stderr
    index = json.loads((tmp_path / "run" / "environment" / "collected.json").read_text())
    assert index["moment"].startswith("after attempt 1 of actor_gc[verl=0.3.0.post1,keep_parent=false]")
    made = crashcart("bundle", "run", "--for", "ray", "--out", "b.zip", "--accept-unknown", cwd=tmp_path, timeout=200)
    assert made.returncode == 0, made.stderr
    with ZipFile(tmp_path / "b.zip") as archive:
        archive.extractall(tmp_path)
    assert "verl==0.3.0.post1\n" in (tmp_path / "b" / "requirements.txt").read_text()
    env = os.environ | {"PYTHONPATH": str(overlay("verl", "0.3.0.post1"))}
    for which, code, word in (("failing", 1, "FAILURE SHOWN"), ("control", 0, "PASSED")):
        shown = subprocess.run(
            [sys.executable, "reproduce.py", which],
            cwd=tmp_path / "b",
            env=env,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert shown.returncode == code, shown.stdout + shown.stderr
        assert word in shown.stdout
