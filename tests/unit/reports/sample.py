"""A recorded run that has one of everything, made of literal events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness import events
from harness.attempt import Attempt, Judgement
from harness.events import Event, ProcessKey
from harness.judge import Row, judge_cell
from harness.outcome import ExitStatus, Kind, StatusSource, Verdict, VerdictName
from harness.plan import Cell
from harness.record import Manifest, Recorder, read_run

ROOT, SERVER, CORE, HELPER = ProcessKey(100, 1), ProcessKey(101, 2), ProcessKey(102, 3), ProcessKey(103, 4)
EVIL = "</script><script>alert(1)</script><b>&amp;\"'"
"""Text that a page must show and never obey."""


def cell(name: str, **more: Any) -> Cell:  # noqa: ANN401 - fields of events and rows
    """Return a cell of the scenario ``sample`` with two axes."""
    what, _, how = name.partition("-")
    params = {"what": what, "how": how or "plain"}
    return Cell(scenario="sample", id=f"sample[what={what},how={params['how']}]", params=params, **more)


CRASH = cell("crash", kind=Kind.NATIVE, expected=VerdictName.REPRODUCED, expected_reason="the engine has no monitor")
CONTROL = cell("crash-mild", kind=Kind.NATIVE, expected=VerdictName.ABSENT, control_of=CRASH.id)
WRONG = cell("wrong", kind=Kind.NATIVE, expected=VerdictName.ABSENT)
INJECTED = cell("crash-injected", kind=Kind.INJECTED, expected=VerdictName.REPRODUCED)
UNTESTABLE = cell("gpu", kind=Kind.NATIVE, expected=VerdictName.REPRODUCED, untestable="needs a GPU")
NEVER = cell("never", kind=Kind.PROVOKED, expected=VerdictName.ABSENT)
FLAKY = cell("flaky", kind=Kind.PROVOKED, expected=VerdictName.REPRODUCED)
CELLS = (CRASH, CONTROL, WRONG, INJECTED, UNTESTABLE, NEVER, FLAKY)


def born(key: ProcessKey, parent: ProcessKey | None, name: str) -> Event:
    """Return a birth."""
    by = "parent" if parent else "root"
    ppid = parent.pid if parent else 1
    return events.ProcessBorn(key=key, ppid=ppid, parent=parent, name=name, comm=name[:15], claimed_by=by)


def died(key: ProcessKey, *, by: str = "", **how: Any) -> Event:  # noqa: ANN401 - fields of events and rows
    """Return a death."""
    return events.ProcessDied(key=key, status=ExitStatus(source=StatusSource.PIDFD, **how), ended_by=by)


def crash() -> list[tuple[float, Event]]:
    """Tell of a server that is killed by a fault and of an engine that outlives it; times in seconds."""
    fault = "kill_api"
    error = [
        {"type": "openai.APIConnectionError", "text": f"Connection error. {EVIL}"},
        {"type": "OSError", "text": "x"},
    ]
    return [
        (0.0, events.GateChecked(moment="before", clean=True)),
        (0.1, events.AttemptStarted(argv=("prog",), nonce="n", cookie="c")),
        (0.2, born(ROOT, None, "python -m scenarios.programs.sample")),
        (0.3, born(SERVER, ROOT, "python -m vllm.entrypoints.openai.api_server --model x")),
        (0.4, events.PhaseMarked(phase="server_start", state="begin", pid=ROOT.pid, at_ns=400_000_000)),
        (1.0, born(CORE, SERVER, "python")),
        (1.5, events.ProcessRenamed(key=CORE, name="VLLM::EngineCore")),
        (1.6, born(HELPER, CORE, f"sh -c {EVIL}")),
        (1.7, died(HELPER, exit_code=1)),
        (2.0, events.PhaseMarked(phase="server_start", state="end", pid=ROOT.pid, at_ns=2_000_000_000)),
        (2.1, events.Observed(mark="generated", pid=ROOT.pid, at_ns=2_100_000_000, data={"tok_s": 563.7})),
        (2.1, events.ShmSeen(path="/dev/shm/psm_1", key=CORE, size=4096)),
        (3.0, events.FaultAttempted(fault=fault, target="api_server", key=SERVER)),
        (3.2, events.ProcessReparented(key=CORE, ppid=1)),
        (3.1, died(SERVER, by=f"fault:{fault}", signal="SIGKILL")),
        (3.3, events.FaultConfirmed(fault=fault, detail="ended after SIGKILL")),
        (4.0, events.PhaseMarked(phase="call", state="begin", pid=ROOT.pid, at_ns=4_000_000_000)),
        (4.5, events.PhaseMarked(phase="call", state="failed", pid=ROOT.pid, at_ns=4_500_000_000, data={"error": "E"})),
        (4.6, events.Observed(mark="client_saw", pid=ROOT.pid, at_ns=4_600_000_000, data={"error": error})),
        (5.0, events.Suspected(suspicion="survivors", reasons=("they outlive the program",), keys=(CORE,))),
        (5.5, events.StacksCaptured(key=CORE, tool="py-spy", path="stacks/102-3.txt", seconds=0.4)),
        (5.6, events.StopStep(step="SIGTERM", keys=(CORE,))),
        (6.0, died(CORE, by="stop:SIGTERM", signal="SIGTERM")),
        (6.1, events.NonceSaid(pid=ROOT.pid, valid=True)),
        (6.2, died(ROOT, exit_code=0)),
        (6.3, events.LeftBehind(what="shm", name="/dev/shm/psm_1", bytes=4096)),
        (6.4, events.AttemptEnded(end="exited", wall_s=6.3, detail="bye")),
    ]


def quiet(wall_s: float = 2.0) -> list[tuple[float, Event]]:
    """Tell of a program in which nothing happened."""
    return [
        (0.0, events.AttemptStarted(argv=("prog",), nonce="n", cookie="c")),
        (0.1, born(ROOT, None, "python")),
        (1.0, events.NonceSaid(pid=ROOT.pid, valid=True)),
        (1.1, died(ROOT, exit_code=0)),
        (wall_s, events.AttemptEnded(end="exited", wall_s=wall_s)),
    ]


STORIES: dict[str, Sequence[Sequence[tuple[float, Event]]]] = {
    CRASH.id: [crash()],
    CONTROL.id: [quiet()],
    WRONG.id: [crash()],
    INJECTED.id: [crash()],
    UNTESTABLE.id: [[(0.0, events.AttemptSkipped(verdict="untestable", reason="needs a GPU"))]],
    FLAKY.id: [crash(), quiet(2.0), crash()],
}


def oracle(attempt: Attempt) -> Judgement:
    """Reproduced if something died by a fault."""
    if any(process.ended_by.startswith("fault:") for process in attempt.processes):
        verdict = Verdict(name=VerdictName.REPRODUCED, signature="orphaned EngineCore", reasons=("it lived 2.9 s",))
    else:
        verdict = Verdict(name=VerdictName.ABSENT, reasons=("all had ended",))
    rate = {"output_tok_s": 563.7} if verdict.name is VerdictName.REPRODUCED else None
    return Judgement(verdict=verdict, effective={"how": attempt.params["how"], "vllm": "0.32.0"}, throughput=rate)


def record(directory: Path, run: str = "20261121T000000Z-sample", cells: Sequence[Cell] = CELLS, **more: Any) -> Path:  # noqa: ANN401 - fields of events and rows
    """Record the run with its rows and what lies beside the events, and return its directory."""
    facts: dict[str, Any] = {"host": {"kernel": "6.1", "cpus": 2}, "versions": {"vllm": "0.32.0"}} | more
    manifest = Manifest(
        run=run, created=run[:16], crashcart="0.1.0", argv=("run", "sample"), cells=tuple(cells), environment=facts
    )
    recorder = Recorder(directory, manifest)
    recorder.write(events.RunStarted(run=run, t_ns=0, wall_ns=0))
    clock = 1_000_000_000
    for one in cells:
        for number, story in enumerate(STORIES.get(one.id, ()), 1):
            for t_s, event in story:
                recorder.write(_stamped(event, one.id, number, clock, clock + int(t_s * 1e9)))
            clock += 10_000_000_000
            folder = recorder.attempt_folder(one, number)
            (folder / "stacks").mkdir()
            (folder / "stacks" / "102-3.txt").write_text(
                f'Process 102: VLLM::EngineCore\nThread 102 (idle): "{EVIL}"\n'
            )
            (folder / "stderr").write_text("\x1b[31mTraceback (most recent call last)\x1b[0m\n" + "noise\n" * 3000)
            (folder / "stdout").write_text(f"hello {EVIL}\nbye\n")
    recorder.write(events.RunEnded(t_ns=clock, wall_ns=clock))
    read = read_run(directory)
    for one in cells:
        recorder.write_row(judge_cell(read, one, oracle))
    recorder.close()
    return directory


def _stamped(event: Event, cell_id: str, number: int, start_ns: int, t_ns: int) -> Event:
    times: dict[str, Any] = {"t_ns": t_ns, "wall_ns": t_ns, "cell": cell_id, "attempt": number}
    if isinstance(event, events.PhaseMarked | events.Observed):
        times["at_ns"] = start_ns + event.at_ns
    return msgspec.structs.replace(event, **times)


def change(row: Row, **fields: Any) -> Row:  # noqa: ANN401 - fields of events and rows
    """Return a row with other fields."""
    return msgspec.structs.replace(row, **fields)
