"""Supervised tests in whole sessions: fixtures, pytest's options, other plugins, workers, interrupts and kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.integration.plugin.conftest import IMPORTS, RunTests, alive, read_junit

FIXTURES = """
def say(*words):
    with open("said.txt", "a") as file: file.write(" ".join(map(str, (os.getpid() == MAIN, *words))) + "\\n")
MAIN = os.getpid()
@pytest.fixture(scope="session")
def everywhere():
    say("session up"); yield "s"; say("session down")
@pytest.fixture(scope="module", params=[1, 2])
def per_module(request):
    say("module up", request.param); yield request.param; say("module down", request.param)
def test_before(everywhere, per_module): pass
@pytest.mark.supervised
def test_inside(everywhere, per_module): say("inside", per_module)
"""
SECOND = """
from test_it import say
@pytest.fixture(scope="class")
def fresh():
    say("class up"); yield; say("class down")
class TestBoth:
    @pytest.mark.supervised
    def test_one(self, fresh): pass
    @pytest.mark.supervised
    def test_two(self, fresh): pass
"""
LEASES = """
@pytest.mark.parametrize("n", range(6))
@pytest.mark.gpu
def test_one(n): hold()
@pytest.mark.parametrize("n", range(2))
@pytest.mark.gpu(count=2)
def test_two(n): hold()
def hold():
    start = time.monotonic()
    time.sleep(0.4)
    with open("held.txt", "a") as file:
        gpus, order = os.environ["CUDA_VISIBLE_DEVICES"], os.environ["CUDA_DEVICE_ORDER"]
        file.write(f"{gpus} {order} {start} {time.monotonic()}\\n")
"""


def test_each_process_tears_down_the_fixtures_that_it_has_set_up(run_tests: RunTests) -> None:
    """What pytest itself had set up is used in the child and torn down once, by pytest."""
    ran = run_tests(FIXTURES, test_second=SECOND)
    assert ran.outcomes == {"passed": 6}, ran.text
    assert list((ran.folder / ".crashcart").iterdir()) == [ran.folder / ".crashcart" / ".gitignore"]
    said = (ran.folder / "said.txt").read_text().splitlines()
    mine, child = ([line.partition(" ")[2] for line in said if line.startswith(whose)] for whose in ("True", "False"))
    assert mine == ["session up", "module up 1", "module down 1", "module up 2", "module down 2", "session down"]
    assert child == ["inside 1", "inside 2", "class up", "class down", "class up", "class down"]


def test_a_fixture_that_fails_to_end_after_a_supervised_test_is_an_error(run_tests: RunTests) -> None:
    source = """
        @pytest.fixture(scope="module", autouse=True)
        def fragile():
            yield
            if os.getpid() == MAIN: raise RuntimeError("module end")
        MAIN = os.getpid()
        def test_plain(): pass
        @pytest.mark.supervised
        def test_it(): pass
    """
    ran = run_tests(source)
    assert ran.outcomes == {"passed": 2, "errors": 1}, ran.text
    assert "RuntimeError: module end" in ran.text


def test_a_session_without_a_mark_loads_the_hooks_alone(run_tests: RunTests) -> None:
    source = """
        def test_it():
            loaded = {name for name in sys.modules if name.startswith(("harness", "msgspec", "psutil", "scenarios"))}
            hooks = {"harness.pytest_plugin" + name for name in ("", ".keys", ".controller", ".flaky")}
            assert loaded <= {"harness", *hooks}, loaded
    """
    assert run_tests(source).outcomes == {"passed": 1}


def test_last_failed_runs_what_crashed(run_tests: RunTests) -> None:
    source = """
        @pytest.mark.supervised
        def test_bad(): os.abort()
        @pytest.mark.supervised
        def test_good(): pass
    """
    assert run_tests(source).outcomes == {"failed": 1, "passed": 1}
    assert list(run_tests(source, "--lf").cases()) == ["test_bad"]


def test_asyncio_tests_run_in_the_child(run_tests: RunTests) -> None:
    source = """
        import asyncio
        MAIN = os.getpid()
        @pytest.mark.supervised
        async def test_it():
            await asyncio.sleep(0.01)
            assert os.getpid() != MAIN
        @pytest.mark.supervised
        async def test_bad():
            await asyncio.wait_for(asyncio.Event().wait(), 0.1)
    """
    options = ("-p", "asyncio", "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    ran = run_tests(source, *options)
    assert ran.outcomes == {"passed": 1, "failed": 1}, ran.text
    assert "TimeoutError" in ran.text


def test_properties_say_what_was_found_and_where(run_tests: RunTests) -> None:
    source = """
        @pytest.mark.supervised
        def test_it(record_property):
            record_property("mine", 3)
        @pytest.mark.supervised
        def test_bad(): os.abort()
    """
    ran = run_tests(source)
    assert ran.properties("test_it") == {"mine": "3"}
    said = ran.properties("test_bad")
    assert said["crashcart_end"] == "its process died of SIGABRT"
    evidence = Path(said["crashcart_evidence"])
    assert [path.parent.name for path in ran.folder.glob(".crashcart/*/*/run.json")] == [evidence.name]
    shown = subprocess.run(
        [sys.executable, "-m", "harness", "report", str(evidence), "--format", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "its process died of SIGABRT" in shown.stdout, shown.stderr


def test_a_rerun_that_passes_is_flaky_and_keeps_its_failures(run_tests: RunTests) -> None:
    source = """
        def count(name):
            with open(name, "a") as file: file.write("x")
            return os.path.getsize(name)
        @pytest.mark.supervised(reruns=2)
        def test_flaky():
            if count("a") == 1: os.abort()
        @pytest.mark.supervised(reruns=1)
        def test_broken(): raise ValueError(count("b"))
    """
    ran = run_tests(source)
    assert ran.outcomes == {"passed": 1, "failed": 1, "rerun": 2}, ran.text
    assert ran.cases() == {"test_flaky": ["flakyFailure"], "test_broken": ["failure", "rerunFailure"]}
    assert ran.properties("test_flaky")["crashcart_attempts"] == "2"
    assert "ValueError: 1" in "".join(ran.junit.find(".//rerunFailure").itertext())  # type: ignore[union-attr]


def test_workers_never_share_a_gpu(run_tests: RunTests) -> None:
    """Four workers, two GPUs that are only stated: no two leases of one GPU overlap, and all tests run."""
    ran = run_tests(LEASES, "-n4", "--crashcart-gpus=nvidia:80,nvidia:80")
    assert ran.outcomes == {"passed": 8}, ran.text
    held = [line.split() for line in (ran.folder / "held.txt").read_text().splitlines()]
    assert {order for _, order, *_ in held} == {"PCI_BUS_ID"}
    assert sorted(len(gpus.split(",")) for gpus, *_ in held) == [1] * 6 + [2] * 2
    for gpu in "01":
        spans = sorted((float(start), float(end)) for gpus, _, start, end in held if gpu in gpus.split(","))
        assert all(one[1] <= other[0] for one, other in pairwise(spans)), spans


def test_hardware_that_is_not_there_is_a_skip_with_its_reason(run_tests: RunTests) -> None:
    source = """
        @pytest.mark.gpu(count=3)
        def test_three(): pass
        @pytest.mark.cuda(memory_gib=100)
        def test_big(): pass
        @pytest.mark.rocm(arch="gfx942")
        def test_amd(leased_gpus):
            assert os.environ["HIP_VISIBLE_DEVICES"] == "2" and "CUDA_VISIBLE_DEVICES" not in os.environ
            assert [gpu.arch for gpu in leased_gpus] == ["gfx942"]
        @pytest.mark.gpu(count=2, vendor="nvidia", nvlink=True)
        def test_linked(leased_gpus): assert len(leased_gpus) == 2
    """
    ran = run_tests(source, "-rs", "--crashcart-gpus=nvidia:80:sm_90:nvlink,nvidia:80:sm_90:nvlink,amd:192:gfx942")
    assert ran.outcomes == {"passed": 2, "skipped": 2}, ran.text
    assert "needs 3 GPUs; --crashcart-gpus shows 2 of that kind (3 in all)" in ran.text
    assert "needs 1 nvidia GPU with 100 GiB; --crashcart-gpus shows 0" in ran.text


def test_without_supervision_gpus_are_leased_all_the_same(run_tests: RunTests) -> None:
    source = """
        @pytest.mark.gpu
        def test_it(): assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
        def test_after(): assert "CUDA_VISIBLE_DEVICES" not in os.environ
    """
    ran = run_tests(source, "--crashcart-supervise=off", "--crashcart-gpus=nvidia:80")
    assert ran.outcomes == {"passed": 2}, ran.text


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        ("supervised(timeout=-1)", "supervised(timeout=-1): give seconds, more than 0"),
        ("supervised(orphans='maybe')", "supervised(orphans='maybe'): say 'fail' or 'report'"),
        ("supervised(5)", "supervised does not take 5; it takes gpu_memory, hang_after, orphans, reruns, shm, timeout"),
        ("gpu(vendor='intel')", "gpu(vendor='intel'): say 'nvidia' or 'amd'"),
        ("cuda(vendor='amd')", "cuda does not take vendor"),
    ],
)
def test_a_wrong_mark_is_one_clear_line_before_anything_runs(run_tests: RunTests, mark: str, says: str) -> None:
    ran = run_tests(f"@pytest.mark.{mark}\ndef test_it(): open('ran', 'w')\n")
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: test_it.py::test_it: @pytest.mark.{says}" in ran.text
    assert not (ran.folder / "ran").exists()


def test_workers_report_as_one_process_does(run_tests: RunTests) -> None:
    source = """
        @pytest.mark.supervised
        @pytest.mark.parametrize("what", ["pass", "fail", "skip", "abort", "hang"])
        def test_it(what):
            if what == "fail": assert [1] == [2]
            if what == "skip": pytest.skip("no")
            if what == "abort": os.abort()
            if what == "hang": time.sleep(60)
    """
    ran = run_tests(source, "-n4", "--crashcart-timeout=3")
    assert ran.outcomes == {"passed": 1, "failed": 3, "skipped": 1}, ran.text
    assert "At index 0 diff: 1 != 2" in ran.text
    assert "its process died of SIGABRT" in ran.text


def test_a_worker_that_is_killed_takes_its_test_along(run_tests: RunTests) -> None:
    """The supervisor hears of the worker's end and ends the test's processes; the other tests are run."""
    source = """
        def parent_of(pid): return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
        @pytest.mark.supervised
        def test_killer():
            subprocess.Popen(["sleep", "71234"], start_new_session=True)
            os.kill(parent_of(os.getppid()), signal.SIGKILL)
            time.sleep(60)
        @pytest.mark.supervised
        @pytest.mark.parametrize("n", range(3))
        def test_other(n): pass
    """
    ran = run_tests(source, "-n2")
    assert ran.outcomes == {"passed": 3, "failed": 1}, ran.text
    assert "crashed while running 'test_it.py::test_killer'" in ran.text
    until = time.monotonic() + 20
    while alive("71234") and time.monotonic() < until:
        time.sleep(0.1)
    assert alive("71234") == []


def test_leaving_pytest_from_within_a_test_leaves_pytest(run_tests: RunTests) -> None:
    source = """
        @pytest.mark.supervised
        def test_it(): pytest.exit("enough", returncode=9)
        def test_after(): open("ran", "w")
    """
    ran = run_tests(source)
    assert (ran.code, "Exit: enough" in ran.text, (ran.folder / "ran").exists()) == (9, True, False)


def test_an_interrupt_in_the_test_is_one_of_the_session(run_tests: RunTests) -> None:
    ran = run_tests(
        "@pytest.mark.supervised\ndef test_it(): raise KeyboardInterrupt\ndef test_after(): open('ran', 'w')\n"
    )
    assert (ran.code, (ran.folder / "ran").exists()) == (pytest.ExitCode.INTERRUPTED, False)


def _start(folder: Path, *args: str) -> subprocess.Popen[bytes]:
    source = """
@pytest.mark.supervised
def test_first(): pass
@pytest.mark.supervised
def test_it():
    subprocess.Popen(["sleep", "71235"], start_new_session=True)
    open("ready", "w").close()
    time.sleep(600)
"""
    (folder / "test_it.py").write_text(IMPORTS + source)
    command = [sys.executable, "-m", "pytest", "-p", "no:asyncio", "--junitxml=junit.xml", "--crashcart-log=log.jsonl"]
    child = subprocess.Popen([*command, *args], cwd=folder, stdout=subprocess.PIPE, start_new_session=True)
    until = time.monotonic() + 60
    while not (folder / "ready").exists() and time.monotonic() < until:
        time.sleep(0.05)
    return child


def test_ctrl_c_ends_the_test_and_writes_the_junit_file(in_folder: pytest.Pytester) -> None:
    child = _start(in_folder.path)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: to all of the foreground
    out, _ = child.communicate(timeout=60)
    assert child.returncode == pytest.ExitCode.INTERRUPTED, out
    assert b"KeyboardInterrupt" in out
    assert alive("71235") == []
    assert [case.get("name") for case in read_junit(in_folder.path / "junit.xml").iter("testcase")] == ["test_first"]


def test_a_log_survives_pytest_and_no_process_does(in_folder: pytest.Pytester) -> None:
    child = _start(in_folder.path)
    child.kill()
    child.communicate(timeout=60)
    until = time.monotonic() + 20
    while alive("71235") and time.monotonic() < until:
        time.sleep(0.1)
    assert alive("71235") == []
    lines = [json.loads(line) for line in (in_folder.path / "log.jsonl").read_text().splitlines()]
    begun, over = ([one["test"] for one in lines if one["event"] == f"test_{word}"] for word in ("started", "finished"))
    assert (begun, over) == (["test_it.py::test_first", "test_it.py::test_it"], ["test_it.py::test_first"])
    assert [one["outcome"] for one in lines if one["event"] == "phase"] == ["passed"] * 3


def test_github_gets_a_summary_and_annotations(
    run_tests: RunTests, in_folder: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(in_folder.path / "summary.md"))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(in_folder.path.parent))
    source = """
        @pytest.mark.supervised
        @pytest.mark.parametrize("n", range(12))
        def test_bad(n): assert n == "50%, at <most>"
        @pytest.mark.supervised
        def test_abort(): os.abort()
    """
    ran = run_tests(source, "--crashcart-supervise=marked")
    annotations = [line for line in ran.text.splitlines() if line.startswith("::error ")]
    assert len(annotations) == 10
    assert annotations[0].startswith(f"::error file={in_folder.path.name}/test_it.py,line=")
    assert "50%25, at <most>" in annotations[0]
    summary = (in_folder.path / "summary.md").read_text()
    assert "### Tests: 13 failed" in summary
    assert summary.count("<details>") == summary.count("</details>") == 13
    assert "its process died of SIGABRT" in summary


@pytest.fixture
def toy_registered(in_folder: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the toy scenario as another distribution does."""
    info = in_folder.path / "site" / "toy-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[crashcart.scenarios]\ntoy = tests.toy:SCENARIO\n")
    monkeypatch.setenv("PYTHONPATH", f"{os.environ['PYTHONPATH']}{os.pathsep}{info.parent}")


@pytest.mark.usefixtures("toy_registered")
def test_a_scenario_is_run_and_its_verdict_asserted(run_tests: RunTests) -> None:
    source = """
        @pytest.mark.scenario("toy", behaviour="grandchild_segv")
        def test_declared(crashcart_row):
            assert crashcart_row().signature == "SIGSEGV"
        @pytest.mark.scenario("toy", behaviour="healthy", verdict="reproduced")
        def test_wrong(): raise SystemExit("not reached")
        @pytest.mark.scenario("toy", behaviour="healthy", oracle="differs")
        def test_untestable(): raise SystemExit("not reached")
        @pytest.mark.scenario("toy", colour="red")
        def test_no_axis(): pass
    """
    ran = run_tests(source, "-rs")
    assert ran.outcomes == {"passed": 1, "failed": 2, "skipped": 1}, ran.text
    assert "toy[behaviour=healthy]: absent (None), expected was reproduced" in ran.text
    assert "scenario toy has no axis 'colour'" in ran.text
    assert "untestable here: oracle=works was asked for" in ran.text or "untestable here: " in ran.text
    assert ran.properties("test_declared")["crashcart_verdict"] == "reproduced"


@pytest.mark.usefixtures("toy_registered")
def test_a_suite_is_collected_with_readable_ids_and_nothing_else(run_tests: RunTests) -> None:
    ran = run_tests("def test_mine(): pass\n", "--crashcart-suite=full", "-k", "toy and (healthy or silent)", "-v")
    assert ran.outcomes["passed"] == 2, ran.text
    assert "toy[behaviour=healthy] PASSED" in ran.text
    assert "test_mine" not in ran.text
    assert ran.cases() == {"toy[behaviour=healthy]": [], "toy[behaviour=silent]": []}


def test_a_suite_that_is_not_there_is_one_line(run_tests: RunTests) -> None:
    ran = run_tests("def test_mine(): pass\n", "--crashcart-suite=nothing")
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: no suite 'nothing'; suites: smoke, laptop" in ran.text
