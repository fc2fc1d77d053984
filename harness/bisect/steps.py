"""What to do next, as a pure function of the settings and the log: the same log always gives the same step.

So a bisection that was killed goes on where it was, and a log can be replayed without running anything. The order is:
both ends, search, culprit and parent interleaved, a look at versions before the culprit. Every run that counts enters
the posterior, whatever it was made for, so that a confirmation that fails sends the search on instead of ending it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from harness.bisect.decide import Counts, Observation, Phase, broken, skipped, tally
from harness.bisect.history import History, Slots
from harness.bisect.policy import Costs, choose
from harness.bisect.rates import DEFAULT, Belief, Known
from harness.bisect.search import ContradictionError, Posterior
from harness.bisect.trust import (
    CHANGED_P,
    ODD_P,
    fisher,
    pairs_wanted,
    passes_needed,
    runs_to_see,
    surprising,
)
from harness.outcome import VerdictName

STOP_KNOWN = 0.95
STOP_LEARNED = 0.96
"""Averaged over its prior the learned posterior is true; at some rates it is a point less (benchmarks)."""
END_RUNS = 30
"""Runs of the bad end without a failure after which the search is refused."""
GOOD_MOST = 60
"""Runs of the good end, at most."""
SCOUT_RUNS = 10
ALIKE = 0.2
"""Costs that differ by less than this share are taken as equal: the choice of the next probe is quicker then."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a bisection was asked to do; durations are in seconds."""

    history: History
    signature: str | None = None
    rate: float | None = None
    stop: float | None = None
    calibration: int = 3
    scouts: int = 2
    budget_runs: int | None = None
    budget_s: float | None = None
    passing_s: float = 1.0
    failing_s: float | None = None
    switch_s: float | None = None
    """Cost of going to another version; measured where it is not given."""

    @property
    def belief(self) -> Belief:
        """What is believed about the reproduction rate before any run."""
        return Known(self.rate) if self.rate is not None else DEFAULT

    @property
    def threshold(self) -> float:
        """The posterior at which a culprit is named."""
        return self.stop if self.stop is not None else STOP_KNOWN if self.rate is not None else STOP_LEARNED


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Run this position once, for this reason; ``left`` more runs are planned while it passes."""

    position: int
    phase: Phase
    left: int = 0
    on: tuple[str, ...] = ()
    """Of a search over knobs: those that have their failing value."""


class Wait(msgspec.Struct, frozen=True):
    """Nothing can be decided before a pending run has ended."""


class Conclusion(msgspec.Struct, frozen=True, kw_only=True):
    """How a bisection ended. Positions are ``None`` where nothing was named."""

    named: bool
    reason: str
    first: int | None = None
    last: int | None = None
    """The culprit is one of these positions: several, where those between cannot be tested."""
    parent: int | None = None
    probability: float = 0.0
    confirmed: tuple[Counts, Counts] = (Counts(), Counts())
    """Interleaved runs of the bad and of the good side."""
    p_value: float | None = None


Step = Task | Wait | Conclusion


@dataclass(frozen=True, slots=True)
class View:
    """What the log says, worked out once per step."""

    settings: Settings
    log: Sequence[Observation]
    pending: Sequence[Task]
    counts: dict[int, Counts]
    skips: dict[int, str]
    slots: Slots

    @classmethod
    def of(cls, settings: Settings, log: Sequence[Observation], pending: Sequence[Task] = ()) -> View:
        """Read the log."""
        skips = skipped(log, settings.signature)
        slots = Slots.of(len(settings.history.candidates), skips)
        return cls(settings, log, pending, tally(log, settings.signature), skips, slots)

    def at(self, position: int) -> Counts:
        """Return the counts of a position."""
        return self.counts.get(position, Counts())

    def waiting(self, position: int, phase: Phase) -> int:
        """Return how many runs of a position are pending for a reason."""
        return sum(task.position == position and task.phase is phase for task in self.pending)

    @property
    def costs(self) -> Costs:
        """What things cost here, in seconds: as measured, or as given as long as nothing was."""
        settings = self.settings
        passing = _mean([one.wall_s for one in self.log if one.verdict is VerdictName.ABSENT])
        failing = _mean([one.wall_s for one in self.log if one.verdict is VerdictName.REPRODUCED])
        passing, failing = passing or failing or settings.passing_s, failing or passing or settings.passing_s
        failing = settings.failing_s if settings.failing_s is not None else failing
        if abs(passing - failing) <= ALIKE * max(passing, failing):
            passing = failing = (passing + failing) / 2
        switch = settings.switch_s
        if switch is None:
            switch = _mean([one.switch_s for one in self.log if one.switch_s]) or 0.0
        return Costs(passing=passing, failing=failing, switch=0.0 if switch < passing * ALIKE else switch)

    def posterior(self) -> Posterior:
        """Return the posterior over the slots."""
        posterior = Posterior.start(self.slots.weights(), self.settings.belief)
        for position, count in self.counts.items():
            slot = self.slots.slot(position)
            if slot:
                posterior = posterior.observe(slot, fails=count.fails, passes=count.passes)
        return posterior

    def rate(self, culprit: int) -> float:
        """Return the reproduction rate as seen from the culprit on, confirmations left out; at least 1%."""
        if self.settings.rate is not None:
            return self.settings.rate
        before = tally(self.log, self.settings.signature, set(Phase) - {Phase.CONFIRM})
        seen = [count for position, count in before.items() if position >= culprit]
        runs = sum(count.runs for count in seen)
        return max(0.01, sum(count.fails for count in seen) / runs) if runs else 1.0


def next_step(
    settings: Settings,
    log: Sequence[Observation],
    *,
    pending: Sequence[Task] = (),
    current: int | None = None,
    runner: int = 0,
) -> Step:
    """Return the next step of a runner that stands at the version ``current`` while others work on ``pending``."""
    view = View.of(settings, log, pending)
    try:
        posterior = view.posterior() if view.slots.last > 0 else None
        step: Step = Conclusion(named=False, reason="fewer than two versions can be tested")
        if posterior is not None:
            step = _ends(view) or _beyond_ends(view, posterior, current, runner)
    except ContradictionError as error:
        return Conclusion(named=False, reason=f"{error}; the range has more than one transition, or an end is wrong")
    return _within_budget(view, step)


def _within_budget(view: View, step: Step) -> Step:
    if isinstance(step, Conclusion):
        return step
    stop = broken(view.log)
    settings = view.settings
    spent = sum(one.wall_s + one.switch_s for one in view.log)
    if settings.budget_runs is not None and len(view.log) + len(view.pending) >= settings.budget_runs:
        stop = f"the budget of {settings.budget_runs} runs is spent"
    if settings.budget_s is not None and spent >= settings.budget_s:
        stop = f"the budget of {settings.budget_s / 3600:.3g} h is spent"
    if stop is None:
        return step
    return Wait() if view.pending else Conclusion(named=False, reason=stop)


def _ends(view: View) -> Step | None:
    """Check the ends: the bad one fails, and often enough to know the rate; the good one does not."""
    good, bad = view.slots.positions[0], view.slots.positions[-1]
    name = view.settings.history.names
    if view.at(good).fails:
        return Conclusion(named=False, reason=f"the good end {name[good]} reproduces the failure")
    total = sum(count.fails for count in view.counts.values())
    wanted = 1 if view.settings.rate is not None else view.settings.calibration
    missing = max(wanted - total, 1 - view.at(bad).fails, 0)
    if missing:
        seen = view.at(bad)
        rate = view.settings.rate
        most = runs_to_see(rate, 0.99) if rate is not None else END_RUNS
        if seen.runs >= most * (seen.fails + 1):
            reason = f"the bad end {name[bad]} failed in {seen.fails} of {seen.runs} runs: too rare to be searched"
            return Conclusion(named=False, reason=reason)
        if view.waiting(bad, Phase.BAD_END) < missing:
            return Task(position=bad, phase=Phase.BAD_END)
        return _good_end(view, good, 2) or Wait()
    if any(one.phase is Phase.SEARCH for one in view.log):
        return None
    return _good_end(view, good, min(passes_needed(view.settings.belief, view.at(bad)), GOOD_MOST))


def _good_end(view: View, good: int, wanted: int) -> Step | None:
    if view.at(good).passes >= wanted:
        return None
    if view.at(good).passes + view.waiting(good, Phase.GOOD_END) < wanted:
        return Task(position=good, phase=Phase.GOOD_END)
    return Wait()


def _beyond_ends(view: View, posterior: Posterior, current: int | None, runner: int) -> Step:
    begun = _rest_of_block(view, posterior, current, runner)
    if begun is not None:
        return begun
    slot = posterior.settled(view.settings.threshold)
    if slot is None:
        return _search(view, posterior, current)
    step = _confirm(view, slot) or _scout(view, slot)
    return step or _named(view, slot, posterior.probability(slot))


def _rest_of_block(view: View, posterior: Posterior, current: int | None, runner: int) -> Task | None:
    """Finish what was begun: being here is paid for, and a failure would have ended it."""
    last = next((one for one in reversed(view.log) if one.runner == runner), None)
    if last is None or last.phase is not Phase.SEARCH or not last.left or last.position != current:
        return None
    slot = view.slots.slot(last.position)
    if slot is None or slot >= posterior.ceiling:
        return None
    return Task(position=last.position, phase=Phase.SEARCH, left=last.left - 1)


def _search(view: View, posterior: Posterior, current: int | None) -> Step:
    pending = [slot for task in view.pending if (slot := view.slots.slot(task.position))]
    here = view.slots.slot(current) if current is not None else None
    probe = choose(posterior, view.costs, current=here or None, pending=pending)
    return Task(position=view.slots.positions[probe.position], phase=Phase.SEARCH, left=probe.runs - 1)


def _sides(view: View, slot: int) -> tuple[int, int]:
    return view.slots.positions[slot], view.slots.positions[slot - 1]


def _confirmed(view: View, slot: int) -> tuple[Counts, Counts]:
    """Return the interleaved counts of both sides."""
    only = tally(view.log, view.settings.signature, {Phase.CONFIRM})
    at, before = _sides(view, slot)
    return only.get(at, Counts()), only.get(before, Counts())


def _confirm(view: View, slot: int) -> Step | None:
    """Interleave both sides in time: bad, good, bad, good, and so on."""
    at, before = _sides(view, slot)
    bad, good = _confirmed(view, slot)
    wanted = pairs_wanted(view.rate(at), bad, good)
    bad_all = bad.runs + view.waiting(at, Phase.CONFIRM)
    good_all = good.runs + view.waiting(before, Phase.CONFIRM)
    if bad.runs >= wanted and good.runs >= wanted:
        return None
    if bad_all >= wanted and good_all >= wanted:
        return Wait()
    return Task(position=at if bad_all <= good_all else before, phase=Phase.CONFIRM)


def _scout(view: View, slot: int) -> Step | None:
    """Look for a second transition: at versions that should have failed, and well before the culprit."""
    for position, p in surprising(view.slots.positions[slot], view.counts).items():
        if view.settings.scouts and CHANGED_P < p <= ODD_P and view.at(position).runs < SCOUT_RUNS:
            return Wait() if view.waiting(position, Phase.SCOUT) else Task(position=position, phase=Phase.SCOUT)
    wanted = min(runs_to_see(view.rate(view.slots.positions[slot]), 0.8), SCOUT_RUNS)
    for number in range(1, view.settings.scouts + 1):
        candidate = slot * number // (view.settings.scouts + 1)
        if not 0 < candidate < slot - 1:
            continue
        position = view.slots.positions[candidate]
        runs = view.at(position).runs
        if runs + view.waiting(position, Phase.SCOUT) < wanted:
            return Task(position=position, phase=Phase.SCOUT)
        if runs < wanted:
            return Wait()
    return None


def _named(view: View, slot: int, probability: float) -> Step:
    if view.pending:
        return Wait()
    first, last = view.slots.span(slot)
    confirmed = _confirmed(view, slot)
    return Conclusion(
        named=True,
        reason="the posterior has reached the stated probability",
        first=first,
        last=last,
        parent=view.slots.positions[slot - 1],
        probability=probability,
        confirmed=confirmed,
        p_value=fisher(*confirmed),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
