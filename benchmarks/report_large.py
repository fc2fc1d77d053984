"""Time and memory of reporting a run of 10,000 cells and 1,000,000 events, and of loading a page of 100 cells.

The issue that asked for it allows 60 s and 1.5 GiB for all files that a run leaves, and 2 s and 2 MB for the page.
Run on an idle machine: ``python benchmarks/report_large.py [CELLS EVENTS_PER_CELL]``.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import events
from harness.events import Event, ProcessKey
from harness.judge import judge_cell
from harness.outcome import ExitStatus, Kind, StatusSource, VerdictName
from harness.plan import Cell
from harness.record import Manifest, Recorder, RunRecord, build_attempt
from harness.watch import oracle

CELLS, EVENTS = 10_000, 100
TICK_NS = 10_000_000
REPORT = """
import resource, sys, time
from pathlib import Path
start = time.perf_counter()
from reports.publish import publish
written = publish(Path(sys.argv[1]))
print(f"{time.perf_counter() - start:.1f} s, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
for path in written:
    print(f"  {path.name} {path.stat().st_size / 1e6:.2f} MB")
"""


def cell(number: int) -> Cell:
    """Return one of the cells: every tenth is injected, every seventh has no expectation."""
    params = {"shard": str(number % 100), "batch": str(number // 100)}
    return Cell(
        scenario="synthetic",
        id=f"synthetic[shard={params['shard']},batch={params['batch']}]",
        params=params,
        kind=Kind.INJECTED if number % 10 == 0 else Kind.NATIVE,
        expected=None if number % 7 == 0 else VerdictName.ABSENT,
    )


def story(number: int, count: int, start_ns: int) -> list[Event]:
    """Return the events of an attempt: a tree of processes, phases and observations; every fifth one crashes."""
    root = ProcessKey(1000, number * 100)
    status = ExitStatus(signal="SIGSEGV", source=StatusSource.PIDFD) if number % 5 == 0 else ExitStatus(exit_code=0)
    facts: list[Event] = [
        events.AttemptStarted(argv=("synthetic",), nonce="n", cookie="c"),
        events.ProcessBorn(key=root, ppid=1, parent=None, name="python train.py", comm="python", claimed_by="root"),
        events.PhaseMarked(phase="work", state="begin", pid=root.pid, at_ns=start_ns),
    ]
    workers = [ProcessKey(1001 + n, number * 100 + n + 1) for n in range((count - 8) // 4)]
    for key in workers:
        name = f"VLLM::Worker_TP{key.pid}"
        facts += [
            events.ProcessBorn(key=key, ppid=root.pid, parent=root, name="python", comm="python", claimed_by="parent"),
            events.ProcessRenamed(key=key, name=name),
            events.Observed(mark="ready", pid=key.pid, at_ns=start_ns + len(facts) * TICK_NS, data={"tok_s": 400.0}),
        ]
    facts += [events.ProcessDied(key=key, status=status) for key in workers]
    facts.append(events.PhaseMarked(phase="work", state="end", pid=root.pid, at_ns=start_ns + len(facts) * TICK_NS))
    while len(facts) < count - 2:
        facts.append(events.HarnessNote(note="synthetic"))
    done = ExitStatus(exit_code=0, source=StatusSource.WAITPID)
    facts.append(events.ProcessDied(key=root, status=done))
    facts.append(events.AttemptEnded(end="exited", wall_s=count * TICK_NS / 1e9))
    return facts


def build(directory: Path, cells: int, count: int) -> None:
    """Record a run of so many cells with so many events each, and its rows."""
    planned = tuple(cell(number) for number in range(cells))
    manifest = Manifest(run="20260101T000000Z-synth", created="now", crashcart="0", argv=("run",), cells=planned)
    recorder = Recorder(directory, manifest)
    recorder.write(events.RunStarted(run=manifest.run))
    for number, one in enumerate(planned):
        start_ns = number * count * TICK_NS
        facts = [
            _stamped(fact, one.id, start_ns + tick * TICK_NS)
            for tick, fact in enumerate(story(number, count, start_ns))
        ]
        for fact in facts:
            recorder.write(fact)
        attempt = build_attempt(one.id, 1, one.params, facts)
        run = RunRecord(
            directory=directory,
            manifest=manifest,
            attempts={one.id: (attempt,)},
            ended=True,
            interrupted=False,
            unreadable_lines=0,
        )
        recorder.write_row(judge_cell(run, one, oracle))
        folder = recorder.attempt_folder(one, 1) if cells <= 1000 else None  # noqa: PLR2004 - spares the disk
        if folder is not None:
            (folder / "stderr").write_text("".join(f"line {n}: something was said\n" for n in range(400)))
            (folder / "stdout").write_text("".join(f"step {n} loss 0.1\n" for n in range(400)))
    recorder.write(events.RunEnded())
    recorder.close()


def _stamped(fact: Event, cell_id: str, t_ns: int) -> Event:
    import msgspec

    return msgspec.structs.replace(fact, cell=cell_id, attempt=1, t_ns=t_ns, wall_ns=t_ns)


def main() -> None:
    """Build, report in a process of its own, and print time, peak memory and sizes."""
    given = [int(text) for text in sys.argv[1:3]]
    cells, count = given if len(given) == 2 else (CELLS, EVENTS)  # noqa: PLR2004
    with tempfile.TemporaryDirectory(prefix="crashcart-bench-") as folder:
        for what, size in ((cells, count), (100, count)):
            directory = Path(folder) / str(what)
            start = time.perf_counter()
            build(directory, what, size)
            lines = (directory / "events.jsonl").read_bytes().count(b"\n")
            mebibytes = (directory / "events.jsonl").stat().st_size / 2**20
            print(f"{what} cells, {lines} events, {mebibytes:.0f} MiB, made in {time.perf_counter() - start:.0f} s")
            done = subprocess.run(
                [sys.executable, "-c", REPORT, str(directory)], capture_output=True, text=True, check=True
            )
            print("reported in " + done.stdout, end="")
            page_load(directory / "report.html")
    print(f"peak of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def page_load(page: Path) -> None:
    """Print how long Chromium takes until the page's load event, and until its filter works; the median of five."""
    try:
        from tests.browser import load_seconds
    except ImportError as error:
        print(f"  page load not measured: {error}")
        return
    measured = load_seconds(page, rounds=5)
    print(f"  page load {measured}")


if __name__ == "__main__":
    main()
