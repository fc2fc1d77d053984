"""The exit status of every descendant, whoever reaped it: right, or honestly unknown, but never wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import harness
from harness.events import HarnessNote
from harness.outcome import signal_name
from harness.probes import connector, linux
from harness.record import iterate_events, read_run

BROOD = Path(__file__).parents[1] / "programs" / "brood.py"
PATHS = (str(Path(harness.__file__).parent.parent), sysconfig.get_path("purelib"))
NOBODY = 65534
SYSTEM_PYTHON = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
"""An interpreter that other users may start, too, and that takes the packages of ours."""
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
CONNECTOR = pytest.mark.skipif(connector.probe() is not None, reason=str(connector.probe()))
EXIT_INFO = pytest.mark.skipif(linux.probe_exit_info() is not None, reason=str(linux.probe_exit_info()))


def watch_brood(folder: Path, life_s: float, *options: str, user: int | None = None) -> tuple[Counter[str], Path]:
    """Watch 1,000 leaves of three levels; return how many statuses were right, unknown, missed or wrong, and why."""
    folder.chmod(0o777)
    python = sys.executable if user is None else SYSTEM_PYTHON
    brood = [python, str(BROOD), "1000", str(life_s), "7"]
    ended = subprocess.run(
        [python, "-m", "harness", "watch", "--out", str(folder / "run"), *options, "--", *brood],
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(PATHS), "PYTHONDONTWRITEBYTECODE": "1"},
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    truth = {int(pid): outcome for pid, outcome in json.loads(ended.stdout).items()}
    (attempt,) = read_run(folder / "run").attempts["watch"]
    statuses = {process.key.pid: process.status for process in attempt.processes}
    found: Counter[str] = Counter(leaves=len(truth))
    for pid, outcome in truth.items():
        status = statuses.get(pid)
        if pid not in statuses:
            found["missed"] += 1
        elif status is None or not status.known:
            found["unknown"] += 1
        elif (status.exit_code == outcome) if outcome >= 0 else (status.signal == signal_name(-outcome)):
            found[f"right by {status.source}"] += 1
            found["right"] += 1
        else:
            found["wrong"] += 1
    return found, folder / "run"


@EXIT_INFO
@pytest.mark.parametrize(
    "user",
    [
        pytest.param(None, id="as we are"),
        pytest.param(
            NOBODY,
            id="an ordinary user",
            marks=[ROOT_ONLY, pytest.mark.skipif(not Path(SYSTEM_PYTHON).exists(), reason=f"needs {SYSTEM_PYTHON}")],
        ),
    ],
)
def test_children_that_live_10_ms(user: int | None) -> None:
    """Reaped by their own parents, random codes and signals, three levels: all of them, root or not.

    If the machine is overloaded, one may be gone before the supervisor is given a processor; then it is tried again.
    """
    tries: list[Counter[str]] = []
    while len(tries) < 3 and not any(found["right"] == found["leaves"] for found in tries):
        with TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
            tries.append(watch_brood(Path(folder), 0.01, user=user)[0])
    assert all(found["wrong"] == 0 for found in tries)
    assert (tries[-1]["leaves"], tries[-1]["right"]) == (1000, 1000), tries


@CONNECTOR
@ROOT_ONLY
def test_children_that_live_for_no_time(tmp_path: Path) -> None:
    """The connector tells of those that are gone before anybody can look."""
    found, _ = watch_brood(tmp_path, 0, "--connector")
    assert found["wrong"] == 0
    assert found["right"] >= 990


@EXIT_INFO
def test_without_the_connector_no_status_is_wrong(tmp_path: Path) -> None:
    """What was gone too soon is missed or unknown."""
    found, _ = watch_brood(tmp_path, 0)
    assert found["wrong"] == 0
    assert found["right"] > 500


@pytest.mark.parametrize(
    ("without", "source"),
    [
        (["pidfd_info"], "zombie_stat"),
        pytest.param(["pidfd_info", "zombie_stat", "--connector"], "connector", marks=[CONNECTOR, ROOT_ONLY]),
    ],
    ids=["zombie", "connector"],
)
def test_where_the_kernel_tells_less(without: list[str], source: str, tmp_path: Path) -> None:
    """On kernels before 6.15 the next source steps in, each status says which, and none is wrong."""
    options = [word for name in without for word in ([name] if name.startswith("--") else ["--without", name])]
    found, run = watch_brood(tmp_path, 0.01, *options)
    assert found["wrong"] == 0
    assert found[f"right by {source}"] == found["right"] > 0
    assert "taken away" in read_run(run).manifest.capabilities["pidfd_info"]


def test_without_any_source_unknown_is_said(tmp_path: Path) -> None:
    """Only our own children are known then: every other status is unknown, and none is made up."""
    found, _ = watch_brood(tmp_path, 0.01, "--without", "pidfd_info", "--without", "zombie_stat")
    assert (found["right"], found["wrong"]) == (0, 0)
    assert found["unknown"] > 900


def test_a_connector_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    """Asked for and refused: the record says so, and the other sources go on."""
    found, run = watch_brood(tmp_path, 0.01, "--connector", "--without", "connector")
    notes = [event.note for event in iterate_events(run) if isinstance(event, HarnessNote)]
    assert notes == ["going on without the process-event connector: it was taken away by --without"]
    assert found["wrong"] == 0


@ROOT_ONLY
def test_in_a_network_namespace_and_without_capabilities(tmp_path: Path) -> None:
    """As in a container: the connector is silent there, and the statuses come from the pidfds."""
    options = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "setpriv", "--bounding-set=-all"]
    command = [sys.executable, "-m", "harness", "watch", "--connector", "--out", str(tmp_path / "run"), "--"]
    ended = subprocess.run(
        [
            "unshare",
            *options,
            *command,
            "sh",
            "-c",
            "(sleep 0.1; exit 7) & wait; sh -c 'sleep 0.1; kill -9 $$' & wait; exit 3",
        ],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(harness.__file__).parent.parent)},
    )
    assert ended.returncode == 3, ended.stderr
    (attempt,) = read_run(tmp_path / "run").attempts["watch"]
    statuses = [process.status.describe() for process in attempt.processes if process.status is not None]
    assert {"exit 3", "exit 7", "SIGKILL"} <= set(statuses)
    notes = [event.note for event in iterate_events(tmp_path / "run") if isinstance(event, HarnessNote)]
    assert any("connector" in note for note in notes)


@CONNECTOR
@ROOT_ONLY
def test_lost_events_are_noticed() -> None:
    """A buffer that overflows is reported as such, not passed over."""
    listening = connector.Connector(buffer=4096)
    try:
        for _ in range(300):
            os.waitpid(os.posix_spawnp("true", ["true"], {}), 0)
        assert any(isinstance(event, connector.Overflowed) for event in listening.read())
    finally:
        listening.close()
