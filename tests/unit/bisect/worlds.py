"""Fake worlds for the pure parts: a culprit, a rate, and versions that answer in other ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from harness.bisect.decide import Observation
from harness.bisect.history import Candidate, Direction, History
from harness.bisect.knobs import Knob, KnobConclusion, KnobSettings, next_knob_step
from harness.bisect.steps import Conclusion, Settings, Task, next_step
from harness.outcome import VerdictName

SIGNATURE = "SIGSEGV in worker"


def history(size: int, direction: Direction = Direction.FIRST_BAD) -> History:
    """Return a history of versions v0, v1, … from the good end on."""
    return History(direction=direction, candidates=tuple(Candidate(name=f"v{i}") for i in range(size)))


@dataclass
class World:
    """Versions from ``culprit`` on fail with ``rate``; ``strange`` ones always answer what they are told to."""

    culprit: int
    rate: float = 1.0
    strange: Mapping[int, tuple[VerdictName, str | None]] = field(default_factory=dict)
    seed: int = 0
    switch_s: float = 0.0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    def run(self, task: Task, number: int) -> Observation:
        """Run a version once."""
        verdict, signature = VerdictName.ABSENT, None
        if task.position in self.strange:
            verdict, signature = self.strange[task.position]
        elif task.position >= self.culprit and self.random.random() < self.rate:
            verdict, signature = VerdictName.REPRODUCED, SIGNATURE
        return Observation(
            number=number, position=task.position, name=f"v{task.position}", phase=task.phase, verdict=verdict,
            signature=signature, left=task.left, wall_s=1.0, switch_s=self.switch_s,
        )  # fmt: skip


def search(settings: Settings, world: World, most: int = 3000) -> tuple[Conclusion, list[Observation]]:
    """Run a search to its conclusion."""
    log: list[Observation] = []
    while len(log) < most:
        step = next_step(settings, log, current=log[-1].position if log else None)
        if isinstance(step, Conclusion):
            return step, log
        assert isinstance(step, Task), "one runner never waits"
        log.append(world.run(step, len(log) + 1))
    msg = f"no conclusion after {most} runs"
    raise AssertionError(msg)


def search_knobs(
    settings: KnobSettings, fails: Callable[[frozenset[str]], bool], most: int = 2000
) -> tuple[KnobConclusion, list[Observation]]:
    """Run a search over knobs; ``fails`` says whether one run of a configuration does."""
    log: list[Observation] = []
    while len(log) < most:
        step = next_knob_step(settings, log)
        if isinstance(step, KnobConclusion):
            return step, log
        assert isinstance(step, Task), "one runner never waits"
        bad = fails(frozenset(step.on))
        log.append(
            Observation(
                number=len(log) + 1,
                position=step.position,
                name="",
                phase=step.phase,
                on=step.on,
                verdict=VerdictName.REPRODUCED if bad else VerdictName.ABSENT,
                signature=SIGNATURE if bad else None,
            )
        )
    msg = f"no conclusion after {most} runs"
    raise AssertionError(msg)


def knobs(count: int) -> tuple[Knob, ...]:
    """Return so many knobs k0, k1, …."""
    return tuple(Knob(name=f"k{i}", kind="env", failing="1", passing="0") for i in range(count))
