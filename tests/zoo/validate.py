"""Looks at each program of the zoo without any detector: the hangs hang, the healthy do not, and all can be ended.

``python -m tests.zoo.validate [NAME ...] [--docs]``; with ``--docs`` the tables in docs/zoo.md and sealed/observed.md
are written anew.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.zoo.catalogue import CATALOGUE
from tests.zoo.programs import ZOO, Program, build

BETWEEN_S: Final = 6.0
GONE_S: Final = 15.0
WAKING_TICKS: Final = 60
COOKIE: Final = "ZOO_RUN"
SUBREAPER: Final = 36
DOCS: Final = ZOO.parents[1] / "docs" / "zoo.md"
SEALED: Final = ZOO / "sealed" / "observed.md"
BASE: Final = {name: value for name, value in os.environ.items() if not name.startswith("CRASHCART_")}


@dataclass(frozen=True, slots=True)
class Thread:
    state: str
    wchan: str
    ticks: int
    switches: int


@dataclass(frozen=True, slots=True)
class Process:
    title: str
    threads: dict[int, Thread]
    transferred: int


@dataclass(slots=True)
class Observed:
    """What was seen of one program; nothing is wrong with it where `wrong` is empty."""

    program: Program
    seen: str = ""
    moved: str = ""
    ended: str = ""
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Running:
    program: Program
    process: subprocess.Popen[bytes]
    cookie: str
    folder: Path
    started: float

    def output(self) -> str:
        return (self.folder / "stdout").read_text(errors="replace")

    def pids(self) -> list[int]:
        """Find the processes of this program: its group, the word in the environment, and all below those.

        A process that changes its title may write over its environment, and a daemon leaves the group.
        """
        word = f"{COOKIE}={self.cookie}".encode()
        parents, found = {}, set()
        for pid in map(int, filter(str.isdecimal, names("/proc"))):
            with suppress(OSError):
                state, parent, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
                if state == "Z":
                    continue
                parents[pid] = int(parent)
                if int(group) == self.process.pid or word in Path(f"/proc/{pid}/environ").read_bytes():
                    found.add(pid)
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found)

    def look(self) -> dict[int, Process]:
        found = {}
        for pid in self.pids():
            with suppress(OSError):
                found[pid] = read_process(pid)
        return found


def names(folder: str) -> set[str]:
    return {entry.name for entry in Path(folder).iterdir()}


def read_process(pid: int) -> Process:
    folder = Path(f"/proc/{pid}")
    threads = {}
    for entry in (folder / "task").iterdir():
        with suppress(OSError):
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            switches = re.findall(r"ctxt_switches:\s*(\d+)", (entry / "status").read_text())
            threads[int(entry.name)] = Thread(
                state=stat[0],
                wchan=(entry / "wchan").read_text(),
                ticks=int(stat[11]) + int(stat[12]),
                switches=sum(map(int, switches)),
            )
    transferred = re.findall(r"[rw]char: (\d+)", (folder / "io").read_text())
    title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return Process(title=title, threads=threads, transferred=sum(map(int, transferred)))


def start(program: Program, build_folder: Path, base: Path, seconds: int) -> Running:
    """Start a program in a group of its own; all files that it makes go below one folder."""
    build(program, build_folder)
    folder = Path(tempfile.mkdtemp(dir=base))
    cookie = secrets.token_hex(8)
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            program.argv(build_folder, seconds),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            env=BASE | {COOKIE: cookie, "TMPDIR": str(folder), "CRASHCART_PHASES": str(folder / "phases")},
        )
    return Running(program=program, process=process, cookie=cookie, folder=folder, started=time.monotonic())


def differences(before: dict[int, Process], after: dict[int, Process]) -> list[str]:
    """Name what moved between two looks."""
    found = []
    if before.keys() != after.keys():
        found.append("processes")
    both = [(before[pid], after[pid]) for pid in before.keys() & after.keys()]
    if any(one.transferred != two.transferred for one, two in both):
        found.append("bytes")
    threads = [
        (one.threads[tid], two.threads[tid]) for one, two in both for tid in one.threads.keys() & two.threads.keys()
    ]
    if any(one.ticks != two.ticks for one, two in threads):
        found.append("processor time")
    if any(one.switches != two.switches for one, two in threads):
        found.append("switches")
    return found


def summary(processes: dict[int, Process]) -> str:
    """State and wchan of each process's main thread, and of its other threads, equal ones counted."""
    lines: Counter[str] = Counter()
    for pid, process in processes.items():
        if pid not in process.threads:
            continue
        others = Counter(
            f"{thread.state} {thread.wchan}" for tid, thread in process.threads.items() if tid != pid
        ).most_common(2)
        rest = "".join(f", {count}×[{what}]" for what, count in others)
        main = process.threads[pid]
        lines[f"{Path(process.title.split()[0]).name if process.title else '-'} {main.state} {main.wchan}{rest}"] += 1
    parts = [f"{count}× {line}" if count > 1 else line for line, count in lines.most_common(6)]
    return "; ".join(parts) + (f"; {len(lines) - 6} more kinds" if len(lines) > 6 else "")


def judge(running: Running, before: dict[int, Process], after: dict[int, Process]) -> Observed:
    program, output = running.program, running.output()
    code = running.process.poll()
    moved = differences(before, after)
    observed = Observed(program=program, seen=summary(after), moved=", ".join(moved) or "nothing")
    if program.kind == "healthy":
        if code not in {None, 0}:
            observed.wrong.append(f"ended with {code}")
        if code is None and not moved and not program.idle and not any_timer(after):
            observed.wrong.append("nothing moved, and no timer is set")
        return observed
    if code is not None:
        observed.wrong.append(f"ended with {code}")
    if re.search("^passed", output, flags=re.MULTILINE):
        observed.wrong.append("it passed")
    suspects = [int(pid) for pid in re.findall(r"^suspect pid (\d+)$", output, flags=re.MULTILINE)]
    living = [pid for pid in suspects if pid in before and pid in after]
    if not living:
        observed.wrong.append("no suspect is alive")
    observed.wrong += [
        f"{pid} is no {program.suspect!r}: {after[pid].title}"
        for pid in living
        if not re.search(program.suspect, after[pid].title)
    ]
    if program.hang != "livelock":
        observed.wrong += [
            f"the main thread of {pid} moved"
            for pid in living
            if not still(before[pid].threads.get(pid), after[pid].threads.get(pid), wakes=program.phases)
        ]
    if not program.phases and "phase" in phases(running):
        observed.wrong.append("it declared a phase")
    if program.phases and "phase" not in phases(running):
        observed.wrong.append("it declared no phase")
    return observed


def still(one: Thread | None, two: Thread | None, *, wakes: bool) -> bool:
    """Whether a thread did nothing between two looks, or next to nothing: ray.get wakes to look for signals."""
    if wakes and one and two:
        return two.ticks - one.ticks <= WAKING_TICKS
    return one == two


def phases(running: Running) -> str:
    path = running.folder / "phases"
    return path.read_text() if path.exists() else ""


def any_timer(processes: dict[int, Process]) -> bool:
    return any("nanosleep" in thread.wchan for process in processes.values() for thread in process.threads.values())


def shared_files(pid: int) -> set[str]:
    """Files in /dev/shm that a process has mapped and that still have a name."""
    with suppress(OSError):
        return set(re.findall(r" (/dev/shm/\S+)$", Path(f"/proc/{pid}/maps").read_text(), flags=re.MULTILINE))
    return set()


def end(running: Running, observed: Observed) -> None:
    """Kill the group, then what is left one by one; say which of the two it took, and what stayed.

    Shared memory that only processes of this program had mapped is removed: vLLM's outlives a SIGKILL.
    """
    shared = set().union(*map(shared_files, running.pids()))
    with suppress(ProcessLookupError):
        os.killpg(running.process.pid, signal.SIGKILL)
    observed.ended = "group"
    deadline = time.monotonic() + GONE_S
    time.sleep(0.3)
    while pids := running.pids():
        if time.monotonic() > deadline:
            observed.wrong.append(f"cannot be ended: {pids}")
            break
        observed.ended = "each"
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.3)
    running.process.wait(GONE_S)
    for path in shared - set().union(*map(shared_files, map(int, filter(str.isdecimal, names("/proc"))))):
        Path(path).unlink(missing_ok=True)
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def observe(programs: Iterable[Program], seconds: int) -> Iterator[Observed]:
    """Run programs side by side, look at each twice, end them all."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)  # orphans of the programs come to us
    base = Path(tempfile.mkdtemp(prefix="zoo"))
    try:
        batch = [start(program, base, base, seconds) for program in programs]
        for running in batch:
            ready = running.started + running.program.settle_s
            time.sleep(max(0.0, ready - time.monotonic()))
        looks = [running.look() for running in batch]
        time.sleep(BETWEEN_S)
        results = [judge(running, before, running.look()) for running, before in zip(batch, looks, strict=True)]
        for running, observed in zip(batch, results, strict=True):
            end(running, observed)
            if observed.wrong:
                observed.wrong.append((running.folder / "stderr").read_text(errors="replace")[-400:])
        yield from results
    finally:
        shutil.rmtree(base, ignore_errors=True)


def light(program: Program) -> bool:
    """Whether it takes next to no processor time, so that many can be looked at together."""
    quiet = program.kind == "hang" and program.hang != "livelock"
    return (quiet or program.idle) and not program.needs & {"torch", "ray", "vllm"}


def batches(programs: list[Program]) -> Iterator[list[Program]]:
    quiet = [program for program in programs if light(program)]
    yield from (quiet[index : index + 12] for index in range(0, len(quiet), 12))
    yield from ([program] for program in programs if not light(program))


def row(observed: Observed) -> str:
    program = observed.program
    said: str = program.kind
    if program.hang:
        said = f"{program.hang}, {'proved' if program.proved else 'suspected'}{', phases' if program.phases else ''}"
    elif program.idle:
        said = "healthy, idle"
    verdict = "; ".join(observed.wrong).replace("\n", " ").replace("|", "/") or "as said"
    return f"| {program.name} | {said} | {observed.seen} | {observed.moved} | {observed.ended} | {verdict} |"


def write(path: Path, title: str, results: list[Observed], order: list[str]) -> None:
    """Write a table anew; the rows of programs that were not looked at this time stay, and so does what follows."""
    old, section, rest = (path.read_text() if path.exists() else "").partition("\n## ")
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in old.splitlines() if line.startswith("| ")}
    rows |= {item.program.name: row(item) for item in results}
    head = [
        "| program | said | seen (first word of the title, main thread, other threads) | moved in 6 s | ended by | |"
    ]
    text = "\n".join(
        [title, "", *head, "|---|---|---|---|---|---|", *(rows[name] for name in order if name in rows), ""]
    )
    path.write_text(text + section + rest)


TITLE: Final = """# The zoo

Real hangs and healthy programs for the hang detector: `tests/zoo/`. What each is, and why it is expected as it is,
stands in `tests/zoo/catalogue.py`; at least a third is sealed and stands in `tests/zoo/sealed/`. This table is what was
seen without any detector, by `python -m tests.zoo.validate --docs`: state and wchan of the threads, what moved within
six seconds, and whether SIGKILL to the process group ended all (`group`) or each had to be ended by pid (`each`)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--seconds", type=int, default=60, help="how long healthy programs would go on")
    options = parser.parse_args()
    chosen = [program for program in CATALOGUE if not options.names or program.name in options.names]
    for program in chosen:
        if reason := program.missing():
            print(f"{program.name}: {reason}")
    results = []
    for batch in batches([program for program in chosen if not program.missing()]):
        for observed in observe(batch, options.seconds):
            results.append(observed)
            print(row(observed), flush=True)
    if options.docs:
        for path, title, group in ((DOCS, TITLE, "open"), (SEALED, "# What was seen of the sealed", "sealed")):
            order = [program.name for program in CATALOGUE if program.group == group]
            write(path, title, [item for item in results if item.program.group == group], order)
    sys.exit(any(observed.wrong for observed in results))


if __name__ == "__main__":
    main()
