"""A scenario of somebody else's package: one file and one line, and every verb knows it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_cli import crashcart

FILE = '''\
"""A lock that is taken twice: scenario, oracle and program in one file."""

import threading

from harness import child
from harness.attempt import Judgement
from harness.outcome import Kind, Verdict, VerdictName
from harness.spec import Axis, Description, Expectation, Launch, Reference, Row, Scenario


def describe(params):
    control = None if params["lock"] == "plain" else {"lock": "plain"}
    return Description(kind=Kind.PROVOKED, control_of=control)


def expect(params, environment):
    verdict = VerdictName.REPRODUCED if params["lock"] == "plain" else VerdictName.ABSENT
    return Expectation(verdict=verdict, reason="a plain lock does not know its owner")


def oracle(attempt):
    taken = attempt.mark("second").data["taken"]
    if taken:
        return Judgement(verdict=Verdict(name=VerdictName.ABSENT))
    return Judgement(verdict=Verdict(name=VerdictName.REPRODUCED, signature="not taken"))


SCENARIO = Scenario(
    name="lock_twice",
    title="A lock that its owner takes again",
    references=(Reference(name="threading", url="https://docs.python.org/3/library/threading.html"),),
    axes=(Axis(name="lock", values=("plain", "reentrant"), doc="which lock", shown=True),),
    rows=tuple(Row(params={"lock": lock}, suites=frozenset({"smoke"})) for lock in ("plain", "reentrant")),
    describe=describe,
    expect=expect,
    requires=lambda params, environment: None,
    launch=lambda params, environment: Launch(module="lock_twice"),
    oracle=oracle,
)

if __name__ == "__main__":
    lock = threading.Lock() if child.params()["lock"] == "plain" else threading.RLock()
    lock.acquire()
    child.mark("second", taken=lock.acquire(timeout=0.2))
    child.finish()
'''
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "lock-twice"
version = "1.0"

[project.entry-points."crashcart.scenarios"]
lock_twice = "lock_twice:SCENARIO"

[tool.hatch.build.targets.wheel]
only-include = ["lock_twice.py"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the distribution into a folder of its own; crashcart's environment stays as it is."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "source").mkdir()
    (folder / "source" / "lock_twice.py").write_text(FILE)
    (folder / "source" / "pyproject.toml").write_text(PROJECT)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "--target", str(folder / "site"), str(folder / "source")]
    subprocess.run(command, check=True)
    return folder / "site"


def test_a_scenario_from_outside_runs_like_our_own(site: Path, tmp_path: Path) -> None:
    """Its cells are planned, supervised, recorded and judged; the failing one beside its control."""
    done = crashcart("run", "lock_twice", "--suite", "smoke", "--json", cwd=tmp_path, sites=[site])
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["cell"], row["verdict"], row["as_expected"]) for row in rows] == [
        ("lock_twice[lock=plain]", "reproduced", True),
        ("lock_twice[lock=reentrant]", "absent", True),
    ]
    assert rows[1]["control_of"] == rows[0]["cell"]
    assert "lock_twice" in crashcart("list", cwd=tmp_path, sites=[site]).stdout
    assert crashcart("judge", "runs/latest", cwd=tmp_path, sites=[site]).returncode == 0


def test_without_the_distribution_it_is_unknown(tmp_path: Path) -> None:
    done = crashcart("run", "lock_twice", cwd=tmp_path)
    assert (done.returncode, "no scenario 'lock_twice'" in done.stderr) == (64, True)


def test_a_scenario_that_cannot_be_loaded_is_named_in_one_line(site: Path, tmp_path: Path) -> None:
    """A package that registers nonsense does not take the others along silently."""
    broken = tmp_path / "broken"
    info = broken / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[crashcart.scenarios]\nbroken = nowhere:SCENARIO\n")
    done = crashcart("list", cwd=tmp_path, sites=[site, broken])
    assert done.returncode == 64
    (line,) = done.stderr.splitlines()
    assert "scenario 'broken' of 'nowhere:SCENARIO' cannot be loaded" in line
