"""Bisections of real programs: commits, wheels, knobs; killed and gone on with; exit codes that must not count."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

import harness

ROOT = Path(harness.__file__).parent.parent
REPRO = """\
import os, random, sys, time
import lib
if lib.BROKEN:
    time.sleep(float(os.environ.get("SLOW", "0")))
    if random.random() < {rate}:
        print("lost update 0x7f")
        sys.exit(1)
if lib.CODE:
    sys.exit(lib.CODE)
"""


def crashcart(*arguments: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=300, check=False, env=environment(cwd) | env,
    )  # fmt: skip


def environment(cwd: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "CRASHCART_CACHE": str(cwd / "cache")}


Repository = Callable[..., Path]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Return a function that makes a repository whose commits from ``bug`` on fail, and others end with a code."""

    def make(size: int, bug: int, rate: str = "1", codes: dict[int, int] | None = None) -> Path:
        folder = tmp_path / "repository"
        folder.mkdir()

        def git(*arguments: str) -> None:
            own = ("-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false")
            subprocess.run(["git", "-C", folder, *own, *arguments], check=True, capture_output=True)

        git("init", "-q")
        (folder / "repro.py").write_text(REPRO.format(rate=rate))
        for number in range(size):
            code = (codes or {}).get(number, 0)
            (folder / "lib.py").write_text(f"BROKEN = {number >= bug}\nCODE = {code}\nNUMBER = {number}\n")
            git("add", "-A")
            git("commit", "-qm", f"change {number}")
        return folder

    return make


def ends(folder: Path, size: int) -> list[str]:
    return ["--git", str(folder), "--good", f"HEAD~{size - 1}", "--bad", "HEAD"]


def subject(folder: Path, commit: str) -> str:
    return subprocess.run(
        ["git", "-C", folder, "log", "-1", "--format=%s", commit], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_flaky_bug_is_found_among_commits(repository: Repository, tmp_path: Path) -> None:
    folder = repository(30, 17, rate="0.6")
    done = crashcart(
        "bisect", "command", *ends(folder, 30), "--pattern", "lost update", "--scouts", "0", "--out", "out", "--json",
        "--", sys.executable, "repro.py", cwd=tmp_path,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert (done.returncode, result["named"]) == (0, True), done.stderr
    assert (subject(folder, result["culprit"]), subject(folder, result["parent"])) == ("change 17", "change 16")
    assert result["probability"] >= 0.96
    assert result["suspicions"] == []
    assert "█" in done.stderr
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    assert [path.name for path in (tmp_path / "out" / "worktrees").iterdir() if path.is_dir()] == []
    kept = subprocess.run(["git", "-C", folder, "worktree", "list"], capture_output=True, text=True, check=True)
    assert kept.stdout.count("\n") == 1
    again = crashcart("bisect", "--replay", "out", "--json", cwd=tmp_path)
    assert json.loads(again.stdout) == result
    exported = crashcart("bisect", "--replay", "out", "--git-log", cwd=tmp_path)
    (tmp_path / "git.log").write_text(exported.stdout)
    replayed = subprocess.run(
        ["git", "-C", folder, "bisect", "replay", tmp_path / "git.log"], capture_output=True, text=True, check=False
    )
    assert "change 17" in replayed.stdout, replayed.stdout + replayed.stderr


def test_no_code_of_a_child_ends_a_bisection_or_counts_as_bad(repository: Repository, tmp_path: Path) -> None:
    """Commits that end with 124, 125, 134, 137 or 139 lie all over the good and the bad part."""
    codes = {3: 137, 5: 139, 8: 124, 10: 134, 12: 125}
    folder = repository(16, 6, codes=codes)
    done = crashcart(
        "bisect", "command", *ends(folder, 16), "--out", "out", "--json", "--", sys.executable, "repro.py", cwd=tmp_path
    )
    result = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    # Commit 5 dies of its own code, so that 5 or 6 may be the culprit; both are said, and nothing else.
    assert result["culprit"] is not None
    assert subject(folder, result["culprit"]) == "change 6"
    assert [subject(folder, one) for one in result["candidates"]] in ([], ["change 5", "change 6"])
    assert all("exit 1" not in reason.split() for reason in result["skipped"].values())


def test_signals_and_builds_are_no_verdicts_either(repository: Repository, tmp_path: Path) -> None:
    """A build that fails is untestable, whatever its code; the others are built in folders of their own."""
    folder = repository(12, 7)
    build = (
        f"{sys.executable} -c \"import lib, os; lib.NUMBER in (6, 9) and os.kill(os.getpid(), 9); open('built', 'w')\""
    )
    done = crashcart(
        "bisect", "command", *ends(folder, 12), "--build", build, "--out", "out", "--json", "--",
        sys.executable, "-c", "import os, runpy; os.stat('built'); runpy.run_path('repro.py')", cwd=tmp_path,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert [subject(folder, one) for one in result["candidates"]] == ["change 6", "change 7"], done.stderr
    assert any("the build" in reason for reason in result["skipped"].values())
    assert sorted(path.name for path in folder.iterdir() if path.name != ".git") == ["lib.py", "repro.py"]


def test_a_killed_bisection_goes_on_where_it_was(repository: Repository, tmp_path: Path) -> None:
    """SIGKILL in the middle of a run: the run ends by itself, and the next start takes its row and makes none twice."""
    folder = repository(20, 9)
    arguments = [
        "bisect", "command", *ends(folder, 20), "--pattern", "lost", "--out", "out", "--", sys.executable, "repro.py",
    ]  # fmt: skip
    env = environment(tmp_path) | {"SLOW": "1.5"}
    started = subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments], cwd=tmp_path, env=env, stderr=subprocess.DEVNULL
    )
    log = tmp_path / "out" / "log.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count('"started"') >= 3):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    started.wait()
    before = log.read_text()
    assert before.count('"finished"') == 2
    done = crashcart("bisect", "--out", "out", "--json", cwd=tmp_path)
    result = json.loads(done.stdout)
    assert subject(folder, result["culprit"]) == "change 9"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    numbers = [line["observation"]["number"] for line in lines if line["type"] == "finished"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert result["runs"] == len(numbers)


def test_an_interrupted_bisection_leaves_no_process_and_goes_on(repository: Repository, tmp_path: Path) -> None:
    folder = repository(8, 4)
    arguments = ["bisect", "command", *ends(folder, 8), "--out", "out", "--", sys.executable, "repro.py"]
    started = subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        cwd=tmp_path, env=environment(tmp_path) | {"SLOW": "30"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    log = tmp_path / "out" / "log.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and '"started"' in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(1.0)
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "go on with: crashcart bisect --out out" in said
    assert '"finished"' not in log.read_text()
    done = crashcart("bisect", "--out", "out", "--json", cwd=tmp_path)
    assert subject(folder, json.loads(done.stdout)["culprit"]) == "change 4"


def test_two_runners_find_it_too(repository: Repository, tmp_path: Path) -> None:
    folder = repository(30, 21)
    done = crashcart(
        "bisect", "command", *ends(folder, 30), "--runners", "2", "--out", "out", "--json", "--",
        sys.executable, "repro.py", cwd=tmp_path,
    )  # fmt: skip
    assert subject(folder, json.loads(done.stdout)["culprit"]) == "change 21", done.stderr
    runners = {json.loads(line).get("runner") for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()}
    assert {0, 1} <= runners


def make_wheels(folder: Path, broken_from: int) -> None:
    """Write ten wheels of a tiny package; two of them hold the same files."""
    folder.mkdir()
    for minor in range(10):
        stem = f"ccprobe-1.{minor}"
        with ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("ccprobe.py", f"BROKEN = {minor >= broken_from}\n")
            wheel.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: ccprobe\nVersion: 1.{minor}\n")
            wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")


def test_wheels_of_a_folder(tmp_path: Path) -> None:
    make_wheels(tmp_path / "wheels", 7)
    done = crashcart(
        "bisect", "command", "--axis", "ccprobe", "--wheels", "wheels", "--out", "out", "--json", "--",
        sys.executable, "-c", "import ccprobe, sys; sys.exit(ccprobe.BROKEN)", cwd=tmp_path,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert (result["culprit"], result["parent"], result["suspicions"]) == ("1.7", "1.6", []), done.stderr


def test_the_same_artefact_on_both_sides_is_suspicious(tmp_path: Path) -> None:
    """What makes the difference here is the version number alone: the files are the same."""
    make_wheels(tmp_path / "wheels", 99)
    script = "import importlib.metadata as m, sys; sys.exit(m.version('ccprobe') >= '1.4')"
    done = crashcart(
        "bisect", "command", "--axis", "ccprobe", "--wheels", "wheels", "--out", "out", "--json", "--",
        sys.executable, "-c", script, cwd=tmp_path,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert result["culprit"] == "1.4", done.stderr
    assert "the same artefact" in result["suspicions"][0]


def test_vectors_of_packages(tmp_path: Path) -> None:
    make_wheels(tmp_path / "wheels", 4)
    (tmp_path / "vectors").write_text("".join(f"ccprobe==1.{minor}\n" for minor in range(10)))
    done = crashcart(
        "bisect", "command", "--vector", "vectors", "--out", "out", "--json", "--",
        sys.executable, "-c", "import ccprobe, sys; sys.exit(ccprobe.BROKEN)",
        cwd=tmp_path, UV_FIND_LINKS=str(tmp_path / "wheels"), UV_NO_INDEX="1",
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert result["culprit"] == "ccprobe==1.4", done.stderr


DOCKER = """\
#!/bin/sh
case "$1" in
  pull) test "$3" != gone ;;
  run) image=$4; shift 4; IMAGE=$image exec "$@" ;;
  image) echo "sha256:$5" ;;
esac
"""


def test_images_by_a_stand_in_for_docker(tmp_path: Path) -> None:
    """The program called docker here only passes the command on; one image cannot be pulled."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "docker").write_text(DOCKER)
    (tools / "docker").chmod(0o755)
    done = crashcart(
        "bisect", "command", "--images", "a,b,c,gone,d,e,f", "--out", "out", "--json", "--",
        sys.executable, "-c", "import os, sys; sys.exit(os.environ['IMAGE'] >= 'e')",
        cwd=tmp_path, PATH=f"{tools}:{os.environ['PATH']}",
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert (result["culprit"], result["parent"]) == ("e", "d"), done.stderr


def test_knobs_of_a_command(tmp_path: Path) -> None:
    """An environment variable and a flag are both needed; twelve others are not."""
    others = "".join(f'[env.OTHER_{i}]\nfailing = "1"\n' for i in range(12))
    needed = '[env.FAST]\nfailing = "1"\npassing = "0"\n[flag."--eager"]\nfailing = true\n'
    (tmp_path / "knobs.toml").write_text(needed + others)
    script = "import os, sys; sys.exit(os.environ.get('FAST') == '1' and '--eager' in sys.argv)"
    done = crashcart(
        "bisect", "command", "--knobs", "knobs.toml", "--out", "out", "--json", "--", sys.executable, "-c", script,
        cwd=tmp_path,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert set(result["members"]) == {"FAST", "--eager"}
    assert "FAST=1" in result["sentence"]


def test_a_spent_budget_can_be_raised(repository: Repository, tmp_path: Path) -> None:
    folder = repository(20, 13)
    command = ["--", sys.executable, "repro.py"]
    done = crashcart(
        "bisect", "command", *ends(folder, 20), "--out", "out", "--budget-runs", "6", *command, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "the budget of 6 runs is spent" in done.stdout
    done = crashcart("bisect", "--out", "out", "--budget-runs", "60", "--json", cwd=tmp_path)
    result = json.loads(done.stdout)
    assert subject(folder, result["culprit"]) == "change 13", done.stderr
    assert None not in result["artefacts"]


def test_a_search_without_an_answer_ends_with_2(repository: Repository, tmp_path: Path) -> None:
    folder = repository(6, 0)
    command = ["--", sys.executable, "repro.py"]
    done = crashcart("bisect", "command", *ends(folder, 6), "--out", "a", *command, cwd=tmp_path)
    assert done.returncode == 2
    assert "the good end" in done.stdout
    done = crashcart("bisect", "command", *ends(folder, 6), "--out", "b", "--budget-runs", "1", *command, cwd=tmp_path)
    assert done.returncode == 2
    assert "refused: the budget of 1 runs cannot tell 5 candidates apart" in done.stderr
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("behaviour", "code"), [("healthy", 0), ("grandchild_segv", 1), ("silent", 125), ("leak_shm", 125), ("stuck", 125)]
)
def test_check_speaks_git_bisect_run(behaviour: str, code: int, tmp_path: Path) -> None:
    done = crashcart("check", f"tests.toy:SCENARIO[behaviour={behaviour}]", "--out", "run", cwd=tmp_path)
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["tests.toy:NOTHING"],
        ["tests.toy:SCENARIO[colour=red]"],
        ["tests.toy:SCENARIO[behaviour=odd]"],
        ["toy["],
        [],
        ["actor_gc", "--nosuch"],
        ["tests.toy:SCENARIO", "--without", "toy"],
        ["tests.toy:SCENARIO[behaviour=grandchild_segv]", "--signature", "SIGBUS"],
    ],
)
def test_check_says_125_where_there_is_no_verdict(arguments: list[str], tmp_path: Path) -> None:
    """To `git bisect run` 64 would be bad, and 128 and more would end it."""
    done = crashcart("check", "--out", "run", *arguments, cwd=tmp_path)
    assert done.returncode == 125
    assert done.stderr.startswith("crashcart: ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bisect"], "no SCENARIO"),
        (["bisect", "nosuch", "--axis", "x"], "no scenario 'nosuch'"),
        (["bisect", "actor_gc"], "exactly one of --axis"),
        (["bisect", "actor_gc", "--axis", "gc"], "is no version axis"),
        (["bisect", "actor_gc", "--axis", "verl", "--versions", "new"], "invalid version"),
        (
            ["bisect", "actor_gc", "--axis", "verl", "--versions", "0.3,0.4", "--good", "0.5"],
            "none of the 2 versions",
        ),
        (["bisect", "actor_gc", "--axis", "verl", "--", "true"], "goes with the scenario `command`"),
        (["bisect", "command", "--axis", "verl"], "needs the command itself"),
        (["bisect", "command", "--git", ".", "--", "true"], "--git needs --good COMMIT"),
        (["bisect", "command", "--git", ".", "--good", "a", "--bad", "b", "--", "true"], "git rev-parse"),
        (["bisect", "actor_gc", "--images", "a,b"], "images need the scenario `command`"),
        (["bisect", "actor_gc", "--knobs", "nowhere.toml"], "cannot read nowhere.toml"),
        (["bisect", "--replay", "nowhere"], "nowhere holds no bisection"),
        (["bisect", "actor_gc", "--rate", "0"], "Invalid value for '--rate'"),
    ],
)
def test_a_wrong_request_gets_one_line_and_writes_nothing(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = crashcart(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("crashcart: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
