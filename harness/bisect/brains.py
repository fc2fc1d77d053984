"""What the driver is driven by: a search over versions, or one over knobs. Both are pure functions of the log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from harness.bisect.axes import Axis, Images, Packages
from harness.bisect.commits import Commits
from harness.bisect.decide import Observation
from harness.bisect.knobs import KnobConclusion, KnobSettings, next_knob_step
from harness.bisect.one import Prepared
from harness.bisect.steps import Conclusion, Settings, Task, Wait, next_step
from harness.errors import UsageError
from harness.outcome import VerdictName

AnyStep = Task | Wait | Conclusion | KnobConclusion
NOTHING: Final = "(nothing)"


class Brain(Protocol):
    """Decides what is run, and prepares it."""

    def step(self, log: Sequence[Observation], pending: Sequence[Task], current: int | None, runner: int) -> AnyStep:
        """Return what a runner does next."""

    def prepare(self, task: Task) -> Prepared:
        """Make a task ready to run.

        Raises:
            EnvironmentBuildError: If it cannot be run here.
        """

    def name(self, task: Task) -> str:
        """Return what people call it."""

    def coming(self, log: Sequence[Observation], task: Task, runner: int) -> list[Task]:
        """Return what may be run after a task, so that it can be prepared while the task runs."""


class VersionBrain:
    """A search over versions."""

    def __init__(self, settings: Settings, axis: Axis) -> None:
        self.settings = settings
        self.axis = axis

    def step(self, log: Sequence[Observation], pending: Sequence[Task], current: int | None, runner: int) -> AnyStep:
        """Return what a runner does next."""
        return next_step(self.settings, log, pending=pending, current=current, runner=runner)

    def prepare(self, task: Task) -> Prepared:
        """Install, build or pull the version."""
        return self.axis.prepare(self.settings.history.candidates[task.position])

    def name(self, task: Task) -> str:
        """Return the version."""
        return self.settings.history.names[task.position]

    def coming(self, log: Sequence[Observation], task: Task, runner: int) -> list[Task]:
        """Return the next version if the task fails, and if it passes."""
        found = []
        reference = next((one.signature for one in log if one.verdict is VerdictName.REPRODUCED), None)
        for verdict in (VerdictName.ABSENT, VerdictName.REPRODUCED):
            guess = Observation(
                number=len(log) + 1, position=task.position, name="", phase=task.phase, verdict=verdict,
                signature=reference, left=task.left, runner=runner,
            )  # fmt: skip
            step = next_step(self.settings, [*log, guess], current=task.position, runner=runner)
            if isinstance(step, Task) and step.position != task.position:
                found.append(step)
        return found


class KnobBrain:
    """A search over knobs."""

    def __init__(self, settings: KnobSettings) -> None:
        self.settings = settings

    def step(self, log: Sequence[Observation], pending: Sequence[Task], current: int | None, runner: int) -> AnyStep:
        """Return what a runner does next."""
        del current, runner
        return next_knob_step(self.settings, log, pending=pending)

    def prepare(self, task: Task) -> Prepared:
        """Give every knob its failing value where it is on, and its passing one elsewhere."""
        params, env, flags = {}, {}, []
        for knob in self.settings.knobs:
            value = knob.failing if knob.name in task.on else knob.passing
            if knob.kind == "env":
                env[knob.name] = value
            elif knob.kind == "axis":
                params[knob.name] = value or ""
            elif value is not None:
                flags += [knob.name, *([value] if value else [])]
        return Prepared(params=params, env=env, flags=tuple(flags))

    def name(self, task: Task) -> str:
        """Return the knobs that are on."""
        return "+".join(task.on) or NOTHING

    def coming(self, log: Sequence[Observation], task: Task, runner: int) -> list[Task]:
        """Return nothing: a configuration needs no preparation."""
        del log, task, runner
        return []


def axis_of(described: dict[str, str], directory: Path) -> Axis:
    """Return the axis that ``bisect.json`` of a directory describes.

    Raises:
        UsageError: If this crashcart does not know it.
    """
    match described:
        case {"kind": "packages", **axes}:
            return Packages({name.removeprefix("axis:"): axis for name, axis in axes.items()})
        case {"kind": "commits", "repository": repository, **rest}:
            return Commits(Path(repository), directory / "worktrees", rest.get("build"), rest.get("artefact"))
        case {"kind": "images"}:
            return Images()
    msg = f"unknown axis {described!r}"
    raise UsageError(msg, hint="read it with the crashcart that wrote it")
