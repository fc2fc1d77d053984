"""The command line as a user meets it: exit codes, the one clear line, and nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import harness
from harness.cli.main import VERBS


def crashcart(
    *arguments: str, cwd: Path, timeout: float = 60, sites: Sequence[Path] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder; ``sites`` are folders with further distributions."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (Path(harness.__file__).parent.parent, *sites)))},
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "nosuch"], "no scenario 'nosuch'; scenarios: actor_gc"),
        (["run", "actor_gc", "-p", "colour=red"], "no selected scenario has an axis 'colour'; axes: call, gc"),
        (["run", "actor_gc", "-p", "gc=sometimes"], "axis gc has no value 'sometimes'; its values: collect, none"),
        (["run", "actor_gc", "-p", "verl=new-ish"], "'new-ish' is not a version of verl"),
        (["run", "actor_gc", "-p", "verl"], "-p 'verl' is not of the form AXIS=VALUE"),
        (["run", "--suite", "moon"], "no suite 'moon'; suites: smoke"),
        (["run", "--repeat", "0"], "Invalid value for '--repeat'"),
        (["run", "--repeat", "2", "--until-reproduced", "3"], "exclude each other"),
        (["judge", "nowhere"], "nowhere is no run directory: cannot read run.json"),
        (["report", "nowhere"], "nowhere is no run directory"),
        (["ps", "nowhere"], "nowhere is no run directory"),
        (["list", "nosuch"], "no scenario 'nosuch'"),
        (["history"], "no folder runs; name the folder that holds run directories with --in"),
        (["history", "--prune", "0"], "Invalid value for '--prune'"),
        (["nightly", "nowhere.toml"], "cannot read nowhere.toml: No such file or directory"),
        (["dance"], "No such command 'dance'"),
        (["watch"], "Missing argument"),
    ],
)
def test_a_wrong_request_gets_one_line_and_writes_nothing(arguments: list[str], says: str, tmp_path: Path) -> None:
    """Exit code 64, one line that says what, why and what to do, and an untouched folder."""
    done = crashcart(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("crashcart: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_output_directory_is_never_overwritten(tmp_path: Path) -> None:
    """A directory with something in it is refused before anything is run."""
    (tmp_path / "kept").write_text("kept")
    done = crashcart("run", "actor_gc", "--without", "ray", "--out", ".", cwd=tmp_path)
    assert done.returncode == 64
    assert "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_rows_of_a_missing_stack_stand_in_the_table(tmp_path: Path) -> None:
    """Without Ray every cell of actor_gc keeps its row, says why, and the exit code minds it only in a suite."""
    done = crashcart("run", "actor_gc", "--without", "ray", "--json", cwd=tmp_path)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert len(rows) >= 8
    assert {row["verdict"] for row in rows} == {"untestable"}
    assert {row["as_expected"] for row in rows} == {None}
    assert {tuple(row["reasons"]) for row in rows} == {("ray was taken away by --without",)}
    suite = crashcart("run", "actor_gc", "--suite", "smoke", "--without", "ray", cwd=tmp_path)
    assert suite.returncode == 2


def test_stored_runs_are_reported_in_every_format(tmp_path: Path) -> None:
    """The same rows come out of the record in each format."""
    ran = crashcart("run", "actor_gc", "--without", "ray", "--json", cwd=tmp_path)
    forms = {
        form: crashcart("report", "runs/latest", "--format", form, cwd=tmp_path).stdout
        for form in ("table", "md", "csv", "json")
    }
    assert forms["json"] == ran.stdout
    count = len(ran.stdout.splitlines())
    assert forms["md"].count("\n| actor_gc") == count
    assert len(forms["csv"].splitlines()) == count + 1
    assert f"{count} rows" in forms["table"]


@pytest.mark.parametrize("damage", ["", "{", '{"schema": 99}', "[]"])
def test_a_damaged_manifest_is_one_line(tmp_path: Path, damage: str) -> None:
    """A run.json that is empty, cut, of a newer schema or something else is refused, whatever lies beside it."""
    assert crashcart("run", "actor_gc", "--without", "ray", "--out", "run", cwd=tmp_path).returncode == 0
    (tmp_path / "run/run.json").write_text(damage)
    done = crashcart("judge", "run", cwd=tmp_path)
    assert done.returncode == 64
    assert done.stderr.count("\n") == 1


def test_results_that_are_lost_can_be_made_again(tmp_path: Path) -> None:
    """Without results.jsonl the report names the command that makes it, and that works."""
    ran = crashcart("run", "actor_gc", "--without", "ray", "--json", "--out", "run", cwd=tmp_path)
    (tmp_path / "run/results.jsonl").unlink()
    done = crashcart("report", "run", cwd=tmp_path)
    assert done.returncode == 64
    assert "crashcart judge run" in done.stderr
    assert crashcart("judge", "run", "--json", cwd=tmp_path).stdout == ran.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, tmp_path: Path) -> None:
    """--help of each verb works without any stack."""
    done = crashcart(verb, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 6


def test_doctor_says_for_each_cell_why_not(tmp_path: Path) -> None:
    """Every cell of every scenario is there, either runnable or with a reason."""
    done = crashcart("doctor", "--json", "--without", "vllm", cwd=tmp_path)
    said = json.loads(done.stdout)
    blocked = [why for cell, why in said["cells"].items() if cell.startswith(("shm_leak", "rpc_timeout"))]
    assert blocked
    assert set(blocked) == {"vllm was taken away by --without"}
    assert said["capabilities"]["waitpid"] == "yes"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "kill -SEGV $$"], 139),
        (["true"], 0),
        (["no-such-command"], 127),
    ],
)
def test_watch_passes_the_exit_code_on(command: list[str], code: int, tmp_path: Path) -> None:
    """The command's own code, 128+n for a signal, 127 when it does not exist."""
    assert crashcart("watch", "--", *command, cwd=tmp_path).returncode == code


def test_watch_leaves_the_streams_alone_and_records(tmp_path: Path) -> None:
    """Stdout holds nothing but the program's; the record can be listed with ps."""
    done = crashcart("watch", "--", "sh", "-c", "echo out; sh -c 'exit 4'; true", cwd=tmp_path)
    assert done.stdout == "out\n"
    listed = [json.loads(line) for line in crashcart("ps", "runs/latest", "--json", cwd=tmp_path).stdout.splitlines()]
    assert [row["exit_code"] for row in listed] in ([0, 4], [0])
    assert {row["status_source"] for row in listed} <= {"waitpid", "pidfd"}


def test_watch_ends_at_its_timeout(tmp_path: Path) -> None:
    """--timeout ends the tree and gives 124."""
    done = crashcart("watch", "--timeout", "1", "--", "sleep", "60", cwd=tmp_path)
    assert done.returncode == 124


def test_watch_names_survivors_and_spares_them(tmp_path: Path) -> None:
    """A process that outlives the command is named with its pid and goes on; --findings makes it count."""
    done = crashcart("watch", "--findings", "--", "sh", "-c", "setsid sleep 30 & echo $!", cwd=tmp_path)
    pid = int(done.stdout)
    try:
        assert done.returncode == 1
        assert f"still running: pid {pid}" in done.stderr
        assert Path(f"/proc/{pid}").exists()
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_full_disk_ends_the_cell_and_the_tree(tmp_path: Path) -> None:
    """When nothing can be written any more the row says no_verdict and why, and no process is left."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        code = (
            "from pathlib import Path; from harness.run import Request, run; from tests.toy import SCENARIO\n"
            "result = run(Request(scenarios=(SCENARIO,), selection={'behaviour': ('chatty', 'healthy')},"
            f" out=Path({str(small / 'run')!r})))\n"
            "print([(row.verdict.value, (*row.reasons, '')[0]) for row in result.rows], int(result.exit_code))\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert "('no_verdict', 'cannot record: no space left" in done.stdout.lower(), done.stdout + done.stderr
        assert done.stdout.rstrip().endswith(" 2")
        judged = crashcart("judge", str(small / "run"), cwd=tmp_path)
        assert "cannot" in judged.stderr or judged.returncode in {1, 2}
    finally:
        _unmount(small)


def _unmount(folder: Path) -> None:
    for _ in range(20):
        if subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
    message = f"{folder} is still in use: a process was left"
    raise AssertionError(message)
