"""Drives a bisection: asks what to run next, prepares it, runs it in a process of its own, and logs before going on.

Nothing is kept in memory that the log does not say: killed at any moment, the same command goes on where it was. A run
whose crashcart was still alive then is waited for, and its row is taken.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import psutil

from harness.bisect.brains import AnyStep, Brain
from harness.bisect.decide import Observation, observe
from harness.bisect.knobs import KnobConclusion
from harness.bisect.log import BisectLog, Finished, Saved, Started, read
from harness.bisect.one import Prepared, RunRequest
from harness.bisect.steps import Conclusion, Task, Wait
from harness.errors import EnvironmentBuildError
from harness.judge import Row
from harness.outcome import VerdictName
from harness.record import RESULTS
from harness.supervise.loop import Interrupts

POLL_S: Final = 0.05
QUICK_S: Final = 0.3
"""A preparation that takes longer is told about, in seconds."""
ADOPT_S: Final = 3600.0
"""How long a run is waited for that outlived the crashcart that began it, in seconds."""
INTERRUPTED: Final = "interrupted"


class Watcher:
    """What a client wants to be told; every method may be left as it is."""

    def stepped(self, log: Sequence[Observation], running: Sequence[Task]) -> None:
        """The log has grown, or a run has begun."""

    def preparing(self, name: str) -> None:
        """A version is being installed, built or pulled."""

    def waiting(self) -> None:
        """Called often while runs go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a bisection ended; without a conclusion it was interrupted."""

    conclusion: Conclusion | KnobConclusion | None
    log: tuple[Observation, ...]


@dataclass(slots=True)
class _Running:
    started: Started
    process: subprocess.Popen[bytes]
    switch_s: float


class Driver:
    """Runs one bisection to its end."""

    def __init__(
        self, directory: Path, saved: Saved, brain: Brain, *, runners: int = 1, watcher: Watcher | None = None
    ) -> None:
        self.directory = directory.absolute()
        self.saved = saved
        self.brain = brain
        self.watcher = watcher or Watcher()
        self.slots: list[_Running | None] = [None] * runners
        self.current: list[int | None] = [None] * runners
        self.prepared: dict[str, Future[Prepared]] = {}
        recorded = read(directory)
        self.log = list(recorded.observations)
        self.unfinished = recorded.unfinished
        self.number = recorded.runs
        for one in self.log:
            if one.runner < runners:
                self.current[one.runner] = one.position

    def run(self) -> Outcome:
        """Go on until something is concluded, or until SIGINT or SIGTERM; no run is left behind either way.

        Raises:
            RecordingError: If the log cannot be written.
        """
        self.file = BisectLog(self.directory)
        with ThreadPoolExecutor(1) as self.pool, Interrupts() as self.interrupts:
            try:
                self._adopt()
                conclusion = self._loop()
            finally:
                self._end_all()
                self.file.close()
                self.pool.shutdown(wait=False, cancel_futures=True)
        return Outcome(conclusion=conclusion, log=tuple(self.log))

    def _loop(self) -> Conclusion | KnobConclusion | None:
        while not self.interrupts.count:
            self._collect()
            concluded = self._fill()
            if concluded is not None:
                return concluded
            self.watcher.waiting()
            time.sleep(POLL_S)
        return None

    def _fill(self) -> Conclusion | KnobConclusion | None:
        """Give every idle runner something to do; return the conclusion once there is one."""
        for runner, running in enumerate(self.slots):
            if running is not None or self.interrupts.count:
                continue
            pending = [one.started.task for one in self.slots if one is not None]
            step: AnyStep = self.brain.step(self.log, pending, self.current[runner], runner)
            if isinstance(step, Wait):
                continue
            if not isinstance(step, Task):
                return step
            self._start(step, runner)
        return None

    def _start(self, task: Task, runner: int) -> None:
        self.number += 1
        name = self.brain.name(task)
        begin = time.monotonic()
        try:
            prepared = self._ready(task)
        except EnvironmentBuildError as error:
            self._finish(_without_run(self.number, task, name, str(error), runner))
            return
        # Seconds that a run has to wait for its version; nothing where it was prepared in the meantime.
        switch_s = time.monotonic() - begin if self.current[runner] != task.position else 0.0
        out = self.directory / "runs" / f"{self.number:05d}"
        out.parent.mkdir(parents=True, exist_ok=True)
        request = out.with_suffix(".json")
        request.write_bytes(msgspec.json.encode(RunRequest(target=self.saved.target, prepared=prepared, out=str(out))))
        with out.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "harness.bisect.one", str(request)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        started = Started(
            number=self.number,
            task=task,
            directory=str(out.relative_to(self.directory)),
            runner=runner,
            pid=process.pid,
            born=_born(process.pid),
        )
        self.slots[runner] = _Running(started, process, switch_s)
        self.current[runner] = task.position
        self.file.write(started)
        self.watcher.stepped(self.log, [one.started.task for one in self.slots if one is not None])
        self._prefetch(task, runner)

    def _ready(self, task: Task) -> Prepared:
        name = self.brain.name(task)
        future = self.prepared.get(name)
        if future is None:
            future = self.prepared[name] = self.pool.submit(self.brain.prepare, task)
        if future not in wait([future], timeout=QUICK_S).done:
            self.watcher.preparing(name)
        return future.result()

    def _prefetch(self, task: Task, runner: int) -> None:
        """Prepare what may come next while a run goes on."""
        if len(self.slots) > 1:
            return  # the other runners' outcomes matter as much, and the machine is busy
        for coming in self.brain.coming(self.log, task, runner):
            name = self.brain.name(coming)
            if name not in self.prepared:
                self.prepared[name] = self.pool.submit(self.brain.prepare, coming)

    def _collect(self) -> None:
        """Log every run that has ended."""
        for runner, running in enumerate(self.slots):
            if running is not None and running.process.poll() is not None:
                self.slots[runner] = None
                self._finish(self._read(running.started, running.switch_s))

    def _finish(self, observation: Observation | None) -> None:
        if observation is None:
            return
        self.file.write(Finished(observation=observation))
        self.log.append(observation)
        self.watcher.stepped(self.log, [one.started.task for one in self.slots if one is not None])

    def _read(self, started: Started, switch_s: float = 0.0) -> Observation | None:
        """Return the observation of a run that has ended; ``None`` if it was interrupted and so says nothing."""
        out = self.directory / started.directory
        name = self.brain.name(started.task)
        try:
            row = msgspec.json.decode((out / RESULTS).read_bytes().splitlines()[0], type=Row)
        except (OSError, IndexError, msgspec.DecodeError):
            said = _last_words(out.with_suffix(".log"))
            reason = f"the run left no row: {said}"
            return _without_run(
                started.number, started.task, name, reason, started.runner, verdict=VerdictName.NO_VERDICT
            )
        if row.verdict is VerdictName.NO_VERDICT and INTERRUPTED in (row.reasons or ("",))[0]:
            return None
        seen = observe(row, number=started.number, position=started.task.position, name=name, phase=started.task.phase)
        evidence = f"{started.directory}/{row.evidence}" if row.evidence else started.directory
        return msgspec.structs.replace(
            seen,
            left=started.task.left,
            on=started.task.on,
            runner=started.runner,
            switch_s=round(switch_s, 3),
            evidence=evidence,
        )

    def _adopt(self) -> None:
        """Take the rows of runs that outlived the crashcart that began them, having waited for them."""
        for started in self.unfinished:
            until = time.monotonic() + ADOPT_S
            while _born(started.pid) == started.born != 0.0 and time.monotonic() < until and not self.interrupts.count:
                self.watcher.waiting()
                time.sleep(POLL_S)
            if (self.directory / started.directory / RESULTS).exists():
                with suppress(OSError):
                    if (self.directory / started.directory / RESULTS).stat().st_size:
                        self._finish(self._read(started))

    def _end_all(self) -> None:
        """Ask the runs that are going on to stop in an orderly way, and wait for them."""
        going = [one for one in self.slots if one is not None]
        for one in going:
            with suppress(ProcessLookupError):
                one.process.terminate()
        for one in going:
            one.process.wait()
        for runner, running in enumerate(self.slots):
            if running is not None:
                self.slots[runner] = None
                out = self.directory / running.started.directory / RESULTS
                if out.exists() and out.stat().st_size:
                    self._finish(self._read(running.started, running.switch_s))


def _without_run(  # noqa: PLR0913, PLR0917 - the parts of an observation
    number: int,
    task: Task,
    name: str,
    reason: str,
    runner: int,
    verdict: VerdictName = VerdictName.UNTESTABLE,
) -> Observation:
    """Return the observation of something that could not be run."""
    return Observation(
        number=number, position=task.position, name=name, phase=task.phase, verdict=verdict, reason=reason,
        runner=runner, on=task.on,
    )  # fmt: skip


def _born(pid: int) -> float:
    """Return when a process began, 0 if there is none or it is a zombie."""
    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return 0.0


def _last_words(path: Path) -> str:
    try:
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "nothing"
    return lines[-1][:300] if lines else "nothing"
