"""How many runs the bisect engine needs, and whether the probability that it states is true; git_bayesect beside it.

``python benchmarks/bisect_simulation.py [--trials 10000] [--only SECTION]…``; git_bayesect must be importable
(``pip install git_bayesect``), otherwise its columns say so. Every policy meets the same coin: the k-th run at position
i of trial t has one uniform number, whoever asks for it. Trials are spread over the cores.

Model: N candidates, each as likely to be the culprit; a bad version fails with probability p, a good one never does.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Final

from harness.bisect.policy import Costs, choose
from harness.bisect.rates import DEFAULT, Belief, Known
from harness.bisect.search import Posterior

STOP: Final = 0.95
STOP_LEARNED: Final = 0.96
"""The default where the rate is learned: the posterior is true averaged over the prior, a little less at some rates."""
CALIBRATION: Final = 3
THRESHOLDS: Final = (0.90, 0.95, 0.99)
CURVE: Final = (0.51, 0.6, 0.7, 0.8, 0.85, 0.88, *(0.9 + step / 200 for step in range(20)))
CAP: Final = 5_000
CAP_PRIOR: Final = 1_000
"""Budget of a trial whose rate is drawn from the prior, in runs: rates near 0 are given up, and counted."""
SWITCH: Final = 5.0
ALIKE: Final = 0.01
"""Accuracies that differ by more than this are not called equal: there the engine offers nothing so unsure."""
MASK: Final = (1 << 64) - 1


@dataclass(slots=True)
class Coin:
    """The world of one trial: where the culprit is, how often it shows, and one number per position and run."""

    trial: int
    size: int
    rate: float
    culprit: int = 0
    asked: dict[int, int] | None = None

    def __post_init__(self) -> None:
        self.culprit = 1 + int(uniform(self.trial, 0, 0) * self.size)
        self.asked = {}

    def fails(self, position: int) -> bool:
        """Run a position once."""
        assert self.asked is not None  # noqa: S101 - set above
        count = self.asked[position] = self.asked.get(position, 0) + 1
        return position >= self.culprit and uniform(self.trial, position, count) < self.rate


def uniform(trial: int, position: int, count: int) -> float:
    """Return a number in [0, 1) that depends on these three alone (splitmix64)."""
    state = (trial * 0x9E3779B97F4A7C15 + position * 0xD1B54A32D192ED03 + count * 0x8CB92BA72F3D8DD7) & MASK
    for _ in range(2):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return (state >> 11) / (1 << 53)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trial came to at one threshold."""

    runs: int
    cost: float
    right: bool
    stated: float
    """The posterior when the culprit was named; 0 if none was, within the budget."""


def calibrate(coin: Coin, posterior: Posterior, fails: int, cap: int) -> tuple[Posterior, int]:
    """Reproduce the failure at the bad end so many times; return the posterior and the runs it took."""
    seen = runs = 0
    while seen < fails and runs < cap:
        runs += 1
        seen += coin.fails(posterior.size)
    return posterior.observe(posterior.size, fails=seen, passes=runs - seen), runs


def engine(  # noqa: PLR0913 - the parameters of a row
    trial: int, *, size: int, rate: float | None, belief: Belief, stops: Sequence[float], calibration: int = 0,
    costs: Costs = Costs(), cap: int = CAP,  # noqa: B008 - frozen
) -> list[Outcome]:  # fmt: skip
    """Run our engine once and return the outcome at each rising threshold; rate ``None`` draws from the belief."""
    if rate is None:
        rate = belief.draw(Random(trial).random, 0, 0)
    coin = Coin(trial, size, rate)
    posterior, runs = Posterior.start(size, belief), 0
    if calibration:
        posterior, runs = calibrate(coin, posterior, calibration, cap)
    current, moves = None, 0
    found: list[Outcome] = []
    while len(found) < len(stops):
        probe = choose(posterior, costs, current=current)
        moves += probe.position != current
        current = probe.position
        for _ in range(probe.runs):  # a block is finished, whatever the posterior: see harness.bisect.policy
            failed = coin.fails(current)
            runs += 1
            posterior = posterior.observe(current, fails=failed, passes=not failed)
            if failed or runs >= cap:
                break
        while len(found) < len(stops) and (named := posterior.settled(stops[len(found)])) is not None:
            stated = posterior.probability(named)
            found.append(Outcome(runs, runs + moves * costs.switch, named == coin.culprit, stated))
        if runs >= cap:
            found += [Outcome(runs, runs + moves * costs.switch, right=False, stated=0.0)] * (len(stops) - len(found))
    return found


def team(trial: int, *, size: int, rate: float, runners: int, stop: float) -> Outcome:
    """Run our engine with several runners in step; ``runs`` is the number of rounds."""
    coin, posterior, rounds = Coin(trial, size, rate), Posterior.start(size, Known(rate)), 0
    while (named := posterior.settled(stop)) is None:
        pending: list[int] = []
        for _ in range(runners):
            pending.append(choose(posterior, Costs(), pending=pending).position)
        for position in pending:
            failed = coin.fails(position)
            posterior = posterior.observe(position, fails=failed, passes=not failed)
        rounds += 1
    return Outcome(rounds, rounds, named == coin.culprit, posterior.probability(named))


def bayesect(trial: int, *, size: int, rate: float) -> Outcome:
    """Run git_bayesect's own class once, stopping where it does.

    Its index 0 is our bad end, and its last index the good end, which its command line lists, too.
    """
    from git_bayesect import Bisector

    coin, bisector, runs = Coin(trial, size, rate), Bisector([1.0] * (size + 1)), 0
    while bisector.distribution.max() < STOP and runs < CAP:
        index = bisector.select()
        bisector.record(index, coin.fails(size - index))
        runs += 1
    named = size - int(bisector.distribution.argmax())
    return Outcome(runs, runs, named == coin.culprit, float(bisector.distribution.max()))


def repeat(trial: int, *, size: int, rate: float, times: int) -> Outcome:
    """Run a plain bisection that runs each version until it fails, at most so many times."""
    coin, runs, moves = Coin(trial, size, rate), 0, 0
    low, high = 0, size
    while high - low > 1:
        middle = (low + high) // 2
        moves += 1
        failed = False
        for _ in range(times):
            runs += 1
            if failed := coin.fails(middle):
                break
        low, high = (low, middle) if failed else (middle, high)
    return Outcome(runs, runs + SWITCH * moves, high == coin.culprit, 0.0)


class Bench:
    """Runs trials on all cores and prints rows."""

    def __init__(self, pool: ProcessPoolExecutor, trials: int) -> None:
        self.pool = pool
        self.trials = trials

    def many(self, function: Callable[[int], Any]) -> list[Any]:
        """Return the outcome of every trial."""
        return list(self.pool.map(function, range(self.trials), chunksize=max(1, min(100, self.trials // 8))))

    def summary(self, outcomes: Iterable[Outcome]) -> str:
        """Return mean ± standard error, the 95% quantile, and how often right."""
        listed = list(outcomes)
        runs = sorted(one.runs for one in listed)
        error = statistics.pstdev(runs) / math.sqrt(len(runs))
        right = share(one.right for one in listed)
        return f"{statistics.fmean(runs):.2f} ± {error:.2f} | {runs[int(0.95 * len(runs))]} | {right:.4f}"


def share(values: Iterable[bool]) -> float:
    """Return the share of true ones."""
    return statistics.fmean(float(value) for value in values)


def capacity(rate: float) -> float:
    """Return the bits that one run can give at most (Z-channel)."""
    return 1.0 if rate == 1 else math.log2(1 + rate * (1 - rate) ** ((1 - rate) / rate))


def line(*cells: object) -> None:
    """Print a row of a table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def head(title: str, *columns: str) -> None:
    """Print a heading and the head of its table."""
    print(f"\n## {title}\n")
    line(*columns)
    print("|" + "---|" * len(columns))


def runs_section(bench: Bench) -> None:
    """Runs needed with the rate known, with the rate learned, and by git_bayesect, on the same coins."""
    there = importlib.util.find_spec("git_bayesect") is not None
    head(
        f"Runs to a culprit: rate known (stop {STOP}); learned (stop {STOP_LEARNED}, with its {CALIBRATION} calibration"
        f" failures at the bad end); git_bayesect (stop {STOP})",
        "N", "p", "bound", "known: mean", "p95", "right", "learned: mean", "p95", "right", "git_bayesect: mean", "p95",
        "right", "fewer runs than git_bayesect",
    )  # fmt: skip
    for size in (64, 1024):
        for rate in (1.0, 0.5, 0.2):
            job = partial(engine, size=size, rate=rate, belief=Known(rate), stops=(STOP,))
            known = [one[0] for one in bench.many(job)]
            job = partial(engine, size=size, rate=rate, belief=DEFAULT, stops=(STOP_LEARNED,), calibration=CALIBRATION)
            learned = [one[0] for one in bench.many(job)]
            theirs = bench.many(partial(bayesect, size=size, rate=rate)) if there else []
            other = bench.summary(theirs) if theirs else "not installed | - | -"
            wins = ", ".join(
                f"{label} {fewer(ours, theirs)}" for label, ours in (("known", known), ("learned", learned))
            )
            bound = f"{math.log2(size) / capacity(rate):.1f}"
            line(size, rate, bound, bench.summary(known), bench.summary(learned), other, wins)


def fewer(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> str:
    """Return whether the first needed fewer runs on average."""
    if not theirs:
        return "-"
    return "yes" if statistics.fmean(one.runs for one in ours) < statistics.fmean(one.runs for one in theirs) else "NO"


def truth_section(bench: Bench) -> None:
    """Whether the stated posterior is the rate of being right."""
    head(
        f"Stated posterior against how often it was right, N = 256, rate learned (prior: 1 with probability"
        f" {DEFAULT.always}, else Beta({DEFAULT.alpha}, {DEFAULT.beta}))",
        "p", "stop at", "stated, mean", "right", "difference in points", "undecided after the budget",
    )  # fmt: skip
    for rate in (None, 1.0, 0.5, 0.2, 0.1):
        cap = CAP_PRIOR if rate is None else CAP
        job = partial(engine, size=256, rate=rate, belief=DEFAULT, stops=THRESHOLDS, calibration=CALIBRATION, cap=cap)
        all_outcomes = bench.many(job)
        for index, stop in enumerate(THRESHOLDS):
            named = [one[index] for one in all_outcomes if one[index].stated]
            stated, right = statistics.fmean(one.stated for one in named), share(one.right for one in named)
            label = f"from the prior, at most {CAP_PRIOR} runs" if rate is None else f"{rate}"
            undecided = f"{1 - len(named) / len(all_outcomes):.3f}"
            line(label, stop, f"{stated:.4f}", f"{right:.4f}", f"{100 * (right - stated):+.2f}", undecided)


def switching_section(bench: Bench) -> None:
    """Cost against plain repetition where going to another version costs as much as five runs."""
    head(
        f"Cost where a switch costs {SWITCH:g} runs (rate known); repeat-k is plain bisection, bad on first failure",
        "N", "p", "k", "repeat-k: right", "cost", "engine, at least as often right: stop", "right", "cost",
        "engine / repeat-k",
    )  # fmt: skip
    for size in (64, 1024):
        for rate, counts in ((0.5, (5, 6, 7, 8)), (0.2, (16, 19, 21, 24))):
            costs = Costs(switch=SWITCH)
            ours = bench.many(partial(engine, size=size, rate=rate, belief=Known(rate), stops=CURVE, costs=costs))
            curve = [
                (share(one[index].right for one in ours), statistics.fmean(one[index].cost for one in ours), stop)
                for index, stop in enumerate(CURVE)
            ]
            best = next((k for k in counts if (1 - (1 - rate) ** k / 2) ** math.log2(size) >= STOP), counts[-1])
            for times in counts:
                plain = bench.many(partial(repeat, size=size, rate=rate, times=times))
                accuracy, cost = share(one.right for one in plain), statistics.fmean(one.cost for one in plain)
                right, mine, stop = next((point for point in curve if point[0] >= accuracy), curve[-1])
                label = f"{times} (best at 95%)" if times == best else times
                ratio = f"{mine / cost:.3f}"
                if right > accuracy + ALIKE:
                    ratio += ", but right more often"
                line(size, rate, label, f"{accuracy:.4f}", f"{cost:.1f}", f"{stop:.3f}", f"{right:.4f}", f"{mine:.1f}",
                     ratio)  # fmt: skip


def runners_section(bench: Bench) -> None:
    """Rounds with several runners at once."""
    head(
        f"Rounds with several runners (rate known, stop {STOP})",
        "N", "p", "runners", "rounds: mean", "p95", "right",
    )  # fmt: skip
    for rate in (1.0, 0.5, 0.2):
        outcomes = bench.many(partial(team, size=1024, rate=rate, runners=4, stop=STOP))
        line(1024, rate, 4, bench.summary(outcomes))


SECTIONS: Final = {
    "runs": runs_section,
    "truth": truth_section,
    "switching": switching_section,
    "runners": runners_section,
}


def main() -> None:
    """Print every section."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--only", action="append", choices=list(SECTIONS), help="a section; several may be named")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    print(f"# Bisect engine, {options.trials} trials in each row")
    start = time.monotonic()
    with ProcessPoolExecutor(options.workers) as pool:
        for name in options.only or SECTIONS:
            SECTIONS[name](Bench(pool, options.trials))
    print(f"\n{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
