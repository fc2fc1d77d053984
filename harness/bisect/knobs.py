"""The smallest set of knobs that flips the verdict, where the failure shows in only some of the runs. Pure.

A knob is an environment variable, a flag or an axis value that differs between a failing and a passing configuration.
Classic delta debugging believes every pass. Here each member is found by the same posterior as a version: with the
members found so far on, switch on the first i of the other knobs; the smallest i that fails names one more member.
The set is whole when it fails by itself. Then each member is switched off alone, interleaved with the whole set.

Assumed: more failing values never hide the failure. Where they do, the set that is named still fails, and each of its
members is still needed; only "smallest" is not promised then.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from harness.bisect.decide import NO_VERDICTS, Counts, Observation, Phase, broken, effect, wanted_signature
from harness.bisect.policy import Costs, choose
from harness.bisect.rates import DEFAULT, Belief, Known
from harness.bisect.search import ContradictionError, Posterior
from harness.bisect.steps import END_RUNS, Task, Wait
from harness.bisect.trust import CONFIRM_P, fisher, pairs_wanted, passes_needed
from harness.outcome import VerdictName

STOP: Final = 0.97
GOOD_MOST: Final = 60


class Knob(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between the two configurations; a value of ``None`` means unset, or that the flag is left out."""

    name: str
    kind: Literal["env", "axis", "flag"]
    failing: str | None
    passing: str | None


class KnobSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a search over knobs was asked to do."""

    knobs: tuple[Knob, ...]
    signature: str | None = None
    rate: float | None = None
    stop: float = STOP
    calibration: int = 3
    budget_runs: int | None = None

    @property
    def belief(self) -> Belief:
        """What is believed about the reproduction rate before any run."""
        return Known(self.rate) if self.rate is not None else DEFAULT


class KnobConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """How a search over knobs ended."""

    named: bool
    reason: str
    members: tuple[str, ...] = ()
    probability: float = 0.0
    together: Counts = Counts()
    """Runs with exactly the members on."""
    without: tuple[Counts, ...] = ()
    """Per member, runs with all the others on."""
    p_values: tuple[float, ...] = ()


KnobStep = Task | Wait | KnobConclusion


@dataclass(frozen=True, slots=True)
class _State:
    settings: KnobSettings
    log: Sequence[Observation]
    pending: Sequence[Task]
    counts: dict[frozenset[str], Counts]

    def at(self, on: Collection[str]) -> Counts:
        return self.counts.get(frozenset(on), Counts())

    def waiting(self, on: Collection[str]) -> int:
        return sum(frozenset(task.on) == frozenset(on) for task in self.pending)

    def task(self, on: Collection[str], phase: Phase) -> Task:
        ordered = tuple(knob.name for knob in self.settings.knobs if knob.name in on)
        return Task(position=len(ordered), phase=phase, on=ordered)


def next_knob_step(settings: KnobSettings, log: Sequence[Observation], *, pending: Sequence[Task] = ()) -> KnobStep:
    """Return what to run next, or how the search ended: a pure function of the log."""
    state = _State(settings, log, pending, _tally(settings, log))
    names = [knob.name for knob in settings.knobs]
    try:
        step = _ends(state, names) or _members(state, names)
    except ContradictionError as error:
        step = KnobConclusion(named=False, reason=str(error))
    if isinstance(step, KnobConclusion):
        return step
    stop = broken(log) or _strange(state, step)
    if settings.budget_runs is not None and len(log) + len(pending) >= settings.budget_runs:
        stop = f"the budget of {settings.budget_runs} runs is spent"
    if stop is None:
        return step
    return Wait() if pending else KnobConclusion(named=False, reason=stop)


def _tally(settings: KnobSettings, log: Sequence[Observation]) -> dict[frozenset[str], Counts]:
    wanted = wanted_signature(log, settings.signature)
    counts: dict[frozenset[str], Counts] = {}
    for one in log:
        failed = effect(one, wanted, asked=settings.signature is not None)
        if failed is not None:
            seen = counts.get(frozenset(one.on), Counts())
            counts[frozenset(one.on)] = Counts(seen.fails + failed, seen.passes + (not failed))
    return counts


def _strange(state: _State, step: KnobStep) -> str | None:
    """Return why a configuration without an answer ends the search: it cannot be skipped as a version can."""
    if not isinstance(step, Task) or state.at(step.on).runs:
        return None
    tries = [one for one in state.log if one.on == step.on]
    if len(tries) < NO_VERDICTS:
        return None
    last = tries[-1]
    word = "cannot be tested" if last.verdict is VerdictName.UNTESTABLE else "fails in another way"
    return f"the configuration {'+'.join(step.on) or 'with nothing on'} {word}: {last.signature or last.reason}"


def _ends(state: _State, names: list[str]) -> KnobStep | None:
    failing, passing = state.at(names), state.at(())
    if passing.fails:
        return KnobConclusion(named=False, reason="the passing configuration reproduces the failure")
    if failing.fails < state.settings.calibration:
        if failing.runs >= END_RUNS * (failing.fails + 1):
            reason = (
                f"the failing configuration failed in {failing.fails} of {failing.runs} runs: too rare to be searched"
            )
            return KnobConclusion(named=False, reason=reason)
        if failing.fails + state.waiting(names) < state.settings.calibration:
            return state.task(names, Phase.BAD_END)
        return Wait()
    wanted = min(passes_needed(state.settings.belief, failing), GOOD_MOST)
    if passing.passes + state.waiting(()) < wanted:
        return state.task((), Phase.GOOD_END)
    return Wait() if passing.passes < wanted else None


def _members(state: _State, names: list[str]) -> KnobStep:
    """Find one member after the other, the last one in the order first."""
    found: list[str] = []
    limit, sure = len(names), 1.0
    while True:
        sets = [frozenset(found + names[:count]) for count in range(limit + 1)]
        if not found:
            sets = sets[1:]  # the empty one is the passing end
        posterior = _posterior(state, sets, alone=bool(found))
        slot = posterior.settled(state.settings.stop)
        if slot is None:
            pending = [sets.index(on) + 1 for task in state.pending if (on := frozenset(task.on)) in sets]
            probe = choose(posterior, Costs(), pending=pending)
            return state.task(sets[probe.position - 1], Phase.SEARCH)
        sure *= posterior.probability(slot)
        if found and slot == 1:
            return _confirm(state, found, sure)
        limit = slot - 1 - bool(found)
        found = [names[limit], *found]
        if not limit:
            return _confirm(state, found, sure)


def _posterior(state: _State, sets: list[frozenset[str]], *, alone: bool) -> Posterior:
    """Return the posterior over which is the first set that fails; as likely none more is needed as some other one."""
    weights = [1.0] * len(sets)
    if alone:
        weights[0] = max(1.0, len(sets) - 1.0)
    posterior = Posterior.start(weights, state.settings.belief)
    names = frozenset(knob.name for knob in state.settings.knobs)
    everything = state.at(names)
    counts = [state.at(on) for on in sets]
    if sets[-1] != names:
        counts[-1] = Counts(counts[-1].fails + everything.fails, counts[-1].passes + everything.passes)
    return posterior.observe_all((index, one.fails, one.passes) for index, one in enumerate(counts, 1) if one.runs)


def _confirm(state: _State, members: list[str], sure: float) -> KnobStep:
    """Switch each member off alone, interleaved with the whole set; a member that is not needed is dropped."""
    for member in members:
        if state.at([name for name in members if name != member]).fails:
            return _confirm(state, [name for name in members if name != member], sure)
    together = state.at(members)
    everything = state.at([knob.name for knob in state.settings.knobs])
    rate = (everything.fails + together.fails) / (everything.runs + together.runs)
    variants = [members, *([name for name in members if name != member] for member in members)]
    wanted = max(pairs_wanted(rate, together, state.at(on)) for on in variants[1:])
    made = [sum(one.phase is Phase.CONFIRM and set(one.on) == set(on) for one in state.log) for on in variants]
    planned = [count + state.waiting(on) for count, on in zip(made, variants, strict=True)]
    least = planned.index(min(planned))
    if planned[least] < wanted:
        return state.task(variants[least], Phase.CONFIRM)
    if state.pending:
        return Wait()
    without = tuple(state.at(on) for on in variants[1:])
    p_values = tuple(fisher(together, one) for one in without)
    weak = [member for member, p in zip(members, p_values, strict=True) if p > CONFIRM_P]
    return KnobConclusion(
        named=not weak,
        reason=f"not confirmed to be needed: {', '.join(weak)}" if weak else "each member was confirmed to be needed",
        members=tuple(members),
        probability=sure,
        together=together,
        without=without,
        p_values=p_values,
    )
