"""The pipeline from plan to row, on real processes that misbehave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import ExitCode, UsageError
from harness.outcome import VerdictName
from harness.record import read_run
from harness.run import judge_run
from harness.supervise.faults.disk import disk_of, find_hierarchy
from harness.supervise.faults.performer import FaultError
from reports.formats import summary
from tests.integration.conftest import ToyRun
from tests.toy import SCENARIO


def test_a_healthy_program_is_absent(toy: ToyRun) -> None:
    """The nonce, no failure: absent, as expected, exit code 0, and every status known."""
    result = toy(behaviour="healthy")
    (row,) = result.rows
    assert (row.verdict, row.as_expected, result.exit_code) == (VerdictName.ABSENT, True, ExitCode.OK)
    assert row.processes["status_known"] == row.processes["seen"] >= 1


def test_without_the_nonce_nothing_is_absent(toy: ToyRun) -> None:
    """A program that ends with 0 but did not say its nonce has failed otherwise."""
    (row,) = toy(behaviour="silent").rows
    assert (row.verdict, row.signature) == (VerdictName.OTHER_FAILURE, "no nonce:exit 0")


def test_a_crashed_oracle_gives_no_verdict(toy: ToyRun) -> None:
    """An oracle that raises does not end the run and concludes nothing; the exit code is 2."""
    result = toy(behaviour="healthy", oracle="crashes")
    (row,) = result.rows
    assert row.verdict is VerdictName.NO_VERDICT
    assert "the oracle crashed: LookupError: planned" in row.reasons[0]
    assert result.exit_code is ExitCode.NO_VERDICT


def test_other_effective_parameters_are_untestable(toy: ToyRun) -> None:
    """A cell that ran with something else than what was asked for is never a pass."""
    (row,) = toy(behaviour="healthy", oracle="differs").rows
    assert row.verdict is VerdictName.UNTESTABLE
    assert "oracle=differs was asked for, in effect was other" in row.reasons[0]
    assert row.as_expected is None


def test_status_of_a_grandchild_that_its_parent_reaped(toy: ToyRun) -> None:
    """The signal of a process that is not our child comes from the kernel by its pidfd."""
    (row,) = toy(behaviour="grandchild_segv").rows
    (death,) = row.processes["signal_deaths"]
    assert row.verdict is VerdictName.REPRODUCED
    assert (death["signal"], death["status_source"]) == ("SIGSEGV", "pidfd")
    assert [finding["finding"] for finding in row.findings] == ["signal_death"]


def test_without_pidfd_info_the_zombie_or_nothing_tells(toy: ToyRun) -> None:
    """On a kernel without exit information the source is another one, or honestly unknown."""
    result = toy(behaviour="grandchild_segv", without=frozenset({"pidfd_info"}))
    processes = read_run(result.directory).attempts[result.rows[0].cell][0].processes
    others = [process for process in processes if process.claimed_by == "parent"]
    assert others
    assert {process.status.source.value for process in others if process.status} <= {"zombie_stat", "unknown"}


def test_a_hung_attempt_ends_when_its_stacks_are_taken(toy: ToyRun) -> None:
    """Long before the deadline of a minute; the end is ``hang``, and the record says what kind it is."""
    result = toy(behaviour="hung")
    attempt = read_run(result.directory).attempts[result.rows[0].cell][0]
    assert attempt.end == "hang"
    assert attempt.wall_s < 30
    (stuck,) = attempt.stuck_in(r"hung \(behave\.py")
    assert stuck.names[0].endswith("tests.programs.behave")
    assert [(doubt.suspicion, doubt.proved) for doubt in attempt.suspicions] == [("deadlock", True)]
    assert result.rows[0].signature == "no nonce:hang"


def test_an_escapee_is_found_and_ended(toy: ToyRun) -> None:
    """Double fork, a session of its own, closed descriptors, an empty environment and another name do not hide it."""
    result = toy(behaviour="escapee")
    (row,) = result.rows
    (orphan,) = row.processes["orphans"]
    assert orphan["name"].startswith("innocent")
    attempt = read_run(result.directory).attempts[row.cell][0]
    escaped = next(process for process in attempt.processes if process.name.startswith("innocent"))
    assert escaped.ended_by == "stop:SIGTERM"
    assert escaped.status is not None
    assert (escaped.status.signal, escaped.status.source.value) == ("SIGTERM", "subreaper")
    assert not Path(f"/proc/{escaped.key.pid}").exists()


def test_a_stuck_program_meets_its_deadline(toy: ToyRun) -> None:
    """The deadline captures stacks first, then asks, then kills."""
    result = toy(behaviour="stuck")
    (row,) = result.rows
    assert (row.verdict, row.signature) == (VerdictName.OTHER_FAILURE, "no nonce:deadline")
    attempt = read_run(result.directory).attempts[row.cell][0]
    assert attempt.end == "deadline"
    assert attempt.processes[0].status is not None
    assert attempt.processes[0].status.signal == "SIGKILL"
    text = "".join((result.directory / row.evidence / path).read_text() for path in attempt.stacks)
    assert '"name": "stuck"' in text


def test_a_leaked_segment_is_attributed_and_reclaimed(toy: ToyRun) -> None:
    """What a killed process leaves in /dev/shm is a finding and is removed; entries of others stay."""
    foreign = Path("/dev/shm") / f"crashcart-test-{os.getpid()}"
    foreign.write_bytes(b"x")
    try:
        (row,) = toy(behaviour="leak_shm").rows
        assert foreign.exists()
    finally:
        foreign.unlink()
    (left,) = row.processes["left_behind"]
    assert (left["what"], left["bytes"], left["reclaimed"]) == ("shm", 1 << 20, True)
    assert not (Path("/dev/shm") / left["name"]).exists()


def test_a_fault_is_attempted_and_confirmed(toy: ToyRun) -> None:
    """A declared fault hits the one process that it names, and the death is laid at its door."""
    result = toy(behaviour="victim")
    (row,) = result.rows
    attempt = read_run(result.directory).attempts[row.cell][0]
    (fault,) = attempt.faults
    assert fault.confirmed
    (death,) = row.processes["signal_deaths"]
    assert (death["signal"], death["by"]) == ("SIGKILL", "fault:kill_child")
    gone = attempt.mark("victim_gone")
    assert gone is not None
    assert gone.data["code"] == -signal.SIGKILL


def test_attempts_are_merged_with_their_rate(toy: ToyRun) -> None:
    """Three attempts of one cell give one row with an interval."""
    (row,) = toy(behaviour="grandchild_segv", repeat=3).rows
    assert (row.attempts, row.reproduced) == (3, 3)
    assert row.rate is not None
    assert round(row.rate.low, 4) == 0.4385


def test_untestable_cells_keep_their_rows(toy: ToyRun) -> None:
    """What cannot run here stands in the table with the reason."""
    result = toy(without=frozenset({"toy"}))
    assert len(result.rows) == len(SCENARIO.rows)
    assert {row.verdict for row in result.rows} == {VerdictName.UNTESTABLE}
    assert {row.reasons for row in result.rows} == {("told so",)}


def test_a_release_that_does_not_exist_is_untestable(
    toy: ToyRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A well-formed version that cannot be installed gives a row with the resolver's reason."""
    monkeypatch.setenv("CRASHCART_CACHE", str(tmp_path / "cache"))
    (row,) = toy(behaviour="healthy", six="9999.1").rows
    assert row.verdict is VerdictName.UNTESTABLE
    assert "six 9999.1 cannot be installed here" in row.reasons[0]
    assert row.expected is None


def test_a_checkout_is_a_version_and_the_row_says_which(
    toy: ToyRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A branch runs like a release: no expectation, and what it is stands in the row."""
    monkeypatch.setenv("CRASHCART_CACHE", str(tmp_path / "cache"))
    (tmp_path / "branch").mkdir()
    (tmp_path / "branch" / "pyproject.toml").write_text("[project]\nname = 'six'\nversion = '7.1'\n")
    (tmp_path / "branch" / "six").mkdir()
    (tmp_path / "branch" / "six" / "__init__.py").touch()
    (row,) = toy(behaviour="healthy", six=str(tmp_path / "branch")).rows
    assert (row.verdict, row.expected) == (VerdictName.ABSENT, None)
    assert row.effective["six"].startswith("7.1+local.")


def test_a_checkout_that_is_not_there_is_refused_before_anything_is_run(toy: ToyRun, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        toy(behaviour="healthy", six=str(tmp_path / "nowhere"))


def test_a_record_cut_in_half_is_judged_as_far_as_it_goes(toy: ToyRun) -> None:
    """Half of the events still give the row, and it says why there is no verdict."""
    result = toy(behaviour="healthy")
    log = result.directory / "events.jsonl"
    data = log.read_bytes()
    log.write_bytes(data[: len(data) // 2])
    record, (row,) = judge_run(result.directory, [SCENARIO])
    assert not record.ended
    assert record.unreadable_lines == 1
    assert row.verdict is VerdictName.NO_VERDICT
    assert "stops before the end" in row.reasons[0]


def test_judging_again_gives_the_same_rows(toy: ToyRun) -> None:
    """The record alone is enough."""
    result = toy(behaviour="victim")
    _, rows = judge_run(result.directory, [SCENARIO])
    assert tuple(rows) == result.rows


TOY_RUN = """
import sys
from pathlib import Path
from harness.run import Request, run
from tests.toy import SCENARIO
result = run(Request(scenarios=(SCENARIO,), selection={"behaviour": tuple(sys.argv[2:])}, out=Path(sys.argv[1])))
print([row.verdict.value for row in result.rows], [row.reasons for row in result.rows], flush=True)
sys.exit(result.exit_code)
"""


def _start(out: Path, *behaviours: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", TOY_RUN, str(out), *behaviours]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait_for(path: Path, word: str, seconds: float = 20) -> str:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        text = path.read_text() if path.exists() else ""
        if word in text:
            return text
        time.sleep(0.02)
    msg = f"{word!r} did not come in {path}"
    raise AssertionError(msg)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_stops_the_tree_and_keeps_the_evidence(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C or SIGTERM in the middle: the run is marked interrupted, no process is left, later rows are kept."""
    process = _start(tmp_path / "run", "escapee", "stuck")
    _wait_for(tmp_path / "run/events.jsonl", '"stuck"')
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED, err
    record = read_run(tmp_path / "run")
    assert record.interrupted
    assert "no_verdict" in out
    keys = [process.key for attempts in record.attempts.values() for one in attempts for process in one.processes]
    assert keys
    assert not any(Path(f"/proc/{key.pid}").exists() for key in keys)


def test_two_runs_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    """Each of two crashcarts ends with its own processes in its own ledger."""
    first, second = _start(tmp_path / "a", "escapee", "healthy"), _start(tmp_path / "b", "grandchild_segv", "healthy")
    for process in (first, second):
        _, err = process.communicate(timeout=60)
        assert process.returncode in {ExitCode.OK, ExitCode.UNEXPECTED}, err
    pids = []
    for name in ("a", "b"):
        record = read_run(tmp_path / name)
        pids.append({p.key for attempts in record.attempts.values() for one in attempts for p in one.processes})
        assert all(attempts[0].end == "exited" for attempts in record.attempts.values())
    assert pids[0].isdisjoint(pids[1])


@pytest.fixture
def throttle() -> Iterator[Path]:
    """Return the hierarchy of cgroups that throttles disks; what a fault leaves in it is removed."""
    try:
        mount = find_hierarchy().mount
        disk_of("/")
    except FaultError as reason:
        pytest.skip(str(reason))
    yield mount
    for group in mount.glob(f"crashcart-{os.getpid()}-*"):
        for folder in (*group.glob("*/"), group):
            folder.rmdir()


def test_a_fault_that_stays_leaves_the_next_attempt_without_a_verdict(toy: ToyRun, throttle: Path) -> None:
    """The program has nested a cgroup in that of the fault, which cannot be removed then: said, and nothing runs on."""
    result = toy(behaviour="nester", repeat=2)
    (row,) = result.rows
    assert list(throttle.glob(f"crashcart-{os.getpid()}-slow/nested"))
    first, second = read_run(result.directory).attempts[row.cell]
    (fault,) = first.faults
    assert (fault.confirmed, fault.undone) == (True, False)
    assert "cannot be removed" in fault.not_undone
    assert second.processes == ()
    assert second.skipped is not None
    assert second.skipped.name is VerdictName.NO_VERDICT
    assert f"fault slow of {row.cell} not undone: " in second.skipped.reasons[0]
    assert row.verdict is VerdictName.NO_VERDICT
    assert result.exit_code is ExitCode.NO_VERDICT
    assert "not undone: " in summary(result.rows, result.directory)
    (again,) = judge_run(result.directory, [SCENARIO])[1]
    assert again.verdict is VerdictName.NO_VERDICT
