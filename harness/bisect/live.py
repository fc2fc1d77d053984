"""Live progress of a bisection on stderr: the posterior as a picture, the best candidate, and what is still to come."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.bisect.decide import Observation, Phase
from harness.bisect.driver import Watcher
from harness.bisect.forecast import Forecast, forecast
from harness.bisect.search import ContradictionError
from harness.bisect.steps import Settings, Task, View
from harness.bisect.summary import history_table, picture, short

FORECAST_S: Final = 5.0
"""How often the forecast is made anew, in seconds; it takes up to one itself."""


class LiveView(Watcher):
    """Shows a bisection while it goes on; plain lines where stderr is no terminal."""

    def __init__(self, settings: Settings | None, asked: str | None) -> None:
        self.settings = settings
        self.asked = asked
        self._console = Console(file=sys.stderr, highlight=False)
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self._tty = self._console.is_terminal
        self._said = 0
        self._made = 0.0
        self._forecast: Forecast | None = None
        self._lines: list[str] = []
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        if self._tty:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._tty:
            self._live.stop()

    def preparing(self, name: str) -> None:
        """Say what is being prepared."""
        self._console.print(f"  preparing {name}", markup=False, style="dim")

    def stepped(self, log: Sequence[Observation], running: Sequence[Task]) -> None:
        """Print a line per finished run, and renew the picture."""
        for cells in history_table(log, self.asked)[self._said :]:
            number, name, why, verdict, counted, seconds, said = cells
            self._console.print(
                f"[{number}] {name}  {why}: {verdict}, {counted}, {seconds} s  {said[:60]}",
                markup=False,
                soft_wrap=True,
            )
        grew = len(log) > self._said
        self._said = len(log)
        self._lines = self._state(log, running)
        if grew and not self._tty and self.settings is not None and len(self._lines) > 1:
            self._console.print("    " + self._lines[1], markup=False, soft_wrap=True)

    def waiting(self) -> None:
        """Renew the clock."""
        if self._tty:
            clock = f"{time.monotonic() - self._since:.0f} s"
            self._live.update(Text("\n".join([*self._lines, clock])), refresh=True)

    def _state(self, log: Sequence[Observation], running: Sequence[Task]) -> list[str]:
        doing = ", ".join(sorted({f"{task.phase.value} {self._name(task)}" for task in running}))
        lines = [f"{len(log)} runs; now {doing}" if doing else f"{len(log)} runs"]
        if self.settings is None:
            return lines
        view = View.of(self.settings, log, running)
        if view.slots.last < 1:
            return lines
        try:
            posterior = view.posterior()
            best, chance = posterior.best()
            lines.append(f"|{picture(view)}| {self._culprit(view, best)} {chance:.0%}{self._still(view)}")
        except ContradictionError as error:
            lines.append(str(error))
        return lines

    def _name(self, task: Task) -> str:
        return self.settings.history.names[task.position] if self.settings is not None else short("+".join(task.on))

    @staticmethod
    def _culprit(view: View, slot: int) -> str:
        return view.settings.history.culprit(view.slots.positions[slot])

    def _still(self, view: View) -> str:
        searching = not view.log or view.log[-1].phase in {Phase.BAD_END, Phase.GOOD_END, Phase.SEARCH}
        if not searching:
            return ""
        if self._forecast is None or time.monotonic() - self._made > FORECAST_S:
            self._forecast = forecast(view.posterior(), view.costs, view.settings.threshold)
            self._made = time.monotonic()
        return f"; {in_words(self._forecast)}"


def in_words(one: Forecast) -> str:
    """Return a forecast as people say it."""
    return f"about {one.runs_p50} runs to go, {_hours(one.cost_p50)} (95%: {one.runs_p95}, {_hours(one.cost_p95)})"


def _hours(seconds: float) -> str:
    if seconds < 90:  # noqa: PLR2004 - a minute and a half
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004 - as above
