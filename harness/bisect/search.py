"""The posterior over an ordered range: where does the failure begin? Pure, and exact for the model it states.

Positions 0, 1, …, N are versions in their order. Position 0 is good, position N is bad, and the culprit is the first
bad one, somewhere in 1 … N. A run of a bad version fails with the reproduction rate; a run of a good version **never**
fails. That holds only because a failure counts solely with the wanted signature and on a machine that was clean
before: it is worth a factor of two in runs, and one foreign failure would be final.

What makes this quick: between two tested positions the likelihood of "the culprit is here" is constant, so the
posterior is a few dozen segments, whatever N is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import exp, fsum, inf, log2

from harness.bisect.rates import Belief


class ContradictionError(ValueError):
    """The observations are impossible under the model: a wrong rate, a wrong end, or a failure with a false name."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Positions ``low`` + 1 … ``high`` as culprits that are equally likely up to their prior."""

    low: int
    high: int
    passes: int
    """Passes of versions that would be bad if the culprit was here."""
    mass: float
    """Posterior probability of the whole segment."""
    rate: float
    """Probability that the next run of a bad version fails, if the culprit is here."""


@dataclass(frozen=True)
class Posterior:
    """What the observations say about where the culprit is.

    ``prefix[i]`` is the prior probability that the culprit is at most ``i``; ``passes`` counts passes by position.
    """

    prefix: tuple[float, ...]
    belief: Belief
    fails: int = 0
    ceiling: int = 0
    """The lowest position that has failed, or N."""
    passes: tuple[tuple[int, int], ...] = ()
    """Positions with passes, in their order, and how many each has."""

    @classmethod
    def start(cls, prior: int | Sequence[float], belief: Belief) -> Posterior:
        """Return the posterior before any run: of N equally likely culprits, or with a weight for each.

        Raises:
            ValueError: If there is no candidate or a weight is negative.
        """
        weights = [1.0] * prior if isinstance(prior, int) else list(prior)
        total = fsum(weights)
        if not weights or total <= 0 or min(weights) < 0:
            msg = "a search needs at least one candidate and no negative weight"
            raise ValueError(msg)
        prefix = (0.0, *(part / total for part in accumulate(weights)))
        return cls(prefix=prefix, belief=belief, ceiling=len(weights))

    @property
    def size(self) -> int:
        """N, the number of candidates."""
        return len(self.prefix) - 1

    def observe(self, position: int, *, fails: int = 0, passes: int = 0) -> Posterior:
        """Return the posterior after runs at a position.

        Raises:
            ValueError: If the position is none of 1 … N. (Position 0 is good by assumption: `harness.bisect.trust`.)
        """
        if not 1 <= position <= self.size:
            msg = f"no position {position} among 1 … {self.size}"
            raise ValueError(msg)
        counts = self.passes
        if passes:
            index = bisect_left(counts, (position, 0))
            if index < len(counts) and counts[index][0] == position:
                counts = (*counts[:index], (position, counts[index][1] + passes), *counts[index + 1 :])
            else:
                counts = (*counts[:index], (position, passes), *counts[index:])
        ceiling = min(self.ceiling, position) if fails else self.ceiling
        return Posterior(self.prefix, self.belief, self.fails + fails, ceiling, counts)

    def observe_all(self, counts: Iterable[tuple[int, int, int]]) -> Posterior:
        """Return the posterior after runs given as position, fails, passes."""
        posterior = self
        for position, fails, passes in counts:
            posterior = posterior.observe(position, fails=fails, passes=passes)
        return posterior

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The posterior, in the order of the positions; masses sum to 1.

        Raises:
            ContradictionError: If the observations are impossible under the model.
        """
        remaining = sum(count for _, count in self.passes)
        low, bounds = 0, []
        for position, count in self.passes:
            if position >= self.ceiling:
                break
            bounds.append((low, position, remaining))
            low, remaining = position, remaining - count
        bounds.append((low, self.ceiling, remaining))
        logs = [self.belief.log_likelihood(self.fails, passes) for _, _, passes in bounds]
        top = max(logs)
        if top == -inf:
            msg = "the observations are impossible at the stated reproduction rate"
            raise ContradictionError(msg)
        prefix = self.prefix
        weights = [
            exp(value - top) * (prefix[high] - prefix[low]) for value, (low, high, _) in zip(logs, bounds, strict=True)
        ]
        total = fsum(weights)
        if total <= 0:
            msg = "the observations leave no candidate"
            raise ContradictionError(msg)
        return tuple(
            Segment(low, high, passes, weight / total, self.belief.fail_next(self.fails, passes))
            for weight, (low, high, passes) in zip(weights, bounds, strict=True)
            if weight > 0
        )

    def probability(self, position: int) -> float:
        """Return the probability that the culprit is exactly this position."""
        for segment in self.segments:
            if segment.low < position <= segment.high:
                width = self.prefix[segment.high] - self.prefix[segment.low]
                return segment.mass * (self.prefix[position] - self.prefix[position - 1]) / width
        return 0.0

    def at_most(self, position: int) -> float:
        """Return the probability that the culprit is at most this position, that is: that the position is bad."""
        total = 0.0
        for segment in self.segments:
            if segment.high <= position:
                total += segment.mass
            elif segment.low < position:
                width = self.prefix[segment.high] - self.prefix[segment.low]
                total += segment.mass * (self.prefix[position] - self.prefix[segment.low]) / width
        return min(total, 1.0)

    def best(self) -> tuple[int, float]:
        """Return the most probable culprit and its probability; of equal ones the first."""
        found = (0, -1.0)
        for segment in self.segments:
            if segment.mass <= found[1]:
                continue
            if segment.high - segment.low == 1:
                found = (segment.high, segment.mass)
                continue
            position = max(
                range(segment.low + 1, segment.high + 1),
                key=lambda i: (round(self.prefix[i] - self.prefix[i - 1], 15), -i),
            )
            found = max(found, (position, self.probability(position)), key=lambda pair: pair[1])
        return found

    def settled(self, wanted: float) -> int | None:
        """Return the culprit that has at least the wanted probability (above one half), or ``None``."""
        for segment in self.segments:
            if segment.mass >= wanted:
                if segment.high - segment.low == 1:
                    return segment.high
                position, probability = self.best()
                return position if probability >= wanted else None
        return None

    def entropy(self) -> float:
        """Return what is not yet known about the culprit, in bits (exact for an even prior, else an upper bound)."""
        return sum(segment.mass * log2((segment.high - segment.low) / segment.mass) for segment in self.segments)

    def interval(self, wanted: float) -> tuple[int, int]:
        """Return the shortest run of segments, as first and last position, that holds the wanted probability."""
        segments = self.segments
        sums = [0.0, *accumulate(segment.mass for segment in segments)]
        spans = []
        for first in range(len(segments)):
            last = bisect_right(sums, sums[first] + wanted - 1e-12)
            if last < len(sums):
                spans.append((segments[last - 1].high - segments[first].low, first, last - 1))
        _, first, final = min(spans, default=(0, 0, len(segments) - 1))
        return segments[first].low + 1, segments[final].high
