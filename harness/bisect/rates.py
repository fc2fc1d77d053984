"""What is believed about the reproduction rate: the probability that one run of a bad version shows the failure.

A belief answers one question: how likely is it that runs of bad versions failed so many times and passed so many
times. Everything else follows from that. Versions before the culprit never fail (see `harness.bisect.search`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import exp, inf, lgamma, log, log1p
from typing import Final, Protocol


class Belief(Protocol):
    """What the posterior asks of a belief; natural logarithms."""

    def log_likelihood(self, fails: int, passes: int) -> float:
        """Return the log probability of one sequence of such counts on bad versions; ``-inf`` if impossible."""

    def fail_next(self, fails: int, passes: int) -> float:
        """Return the probability that the next run of a bad version fails, after such counts."""

    def pass_all(self, fails: int, passes: int, runs: int) -> float:
        """Return the probability that the next ``runs`` runs of a bad version all pass, after such counts."""

    def draw(self, uniform: Callable[[], float], fails: int, passes: int) -> float:
        """Return a rate drawn from what is believed after such counts."""


@dataclass(frozen=True, slots=True)
class Known:
    """The rate is given, in (0, 1]."""

    rate: float

    def log_likelihood(self, fails: int, passes: int) -> float:
        """Return the log probability of the counts."""
        if not passes:
            return fails * log(self.rate)
        return fails * log(self.rate) + passes * log1p(-self.rate) if self.rate < 1 else -inf

    def fail_next(self, fails: int, passes: int) -> float:
        """Return the rate, whatever was seen."""
        del fails, passes
        return self.rate

    def pass_all(self, fails: int, passes: int, runs: int) -> float:
        """Return the probability of so many passes in a row."""
        del fails, passes
        return float((1 - self.rate) ** runs)

    def draw(self, uniform: Callable[[], float], fails: int, passes: int) -> float:
        """Return the rate."""
        del uniform, fails, passes
        return self.rate


@dataclass(frozen=True, slots=True)
class Learned:
    """The rate is learned: it is 1 with probability ``always``, else Beta(``alpha``, ``beta``) distributed.

    Many failures are deterministic, and the atom at 1 lets the search notice that after a few runs. The rest leans
    towards low rates, since a rate that is taken to be higher than it is makes passes look like proof.
    """

    always: float
    alpha: float
    beta: float

    def log_likelihood(self, fails: int, passes: int) -> float:
        """Return the log probability of the counts, averaged over the belief."""
        return _log_mixture(self.always, self.alpha, self.beta, fails, passes)

    def fail_next(self, fails: int, passes: int) -> float:
        """Return the mean of the rate after the counts."""
        return _fail_next(self.always, self.alpha, self.beta, fails, passes)

    def pass_all(self, fails: int, passes: int, runs: int) -> float:
        """Return the probability of so many passes in a row, averaged over the belief."""
        return exp(self.log_likelihood(fails, passes + runs) - self.log_likelihood(fails, passes))

    def draw(self, uniform: Callable[[], float], fails: int, passes: int) -> float:
        """Return a rate drawn from the belief after the counts, by inverting its distribution on a grid."""
        if not passes:
            share = self.always / exp(self.log_likelihood(fails, 0))
            if uniform() < share:
                return 1.0
        return _beta_draw(uniform, self.alpha + fails, self.beta + passes)


@lru_cache(maxsize=1 << 16)
def _log_mixture(always: float, alpha: float, beta: float, fails: int, passes: int) -> float:
    spread = log1p(-always) + _log_beta(alpha + fails, beta + passes) - _log_beta(alpha, beta)
    if passes or not always:
        return spread
    top = max(spread, log(always))
    return top + log(exp(spread - top) + exp(log(always) - top))


@lru_cache(maxsize=1 << 16)
def _fail_next(always: float, alpha: float, beta: float, fails: int, passes: int) -> float:
    return exp(_log_mixture(always, alpha, beta, fails + 1, passes) - _log_mixture(always, alpha, beta, fails, passes))


def _log_beta(alpha: float, beta: float) -> float:
    return lgamma(alpha) + lgamma(beta) - lgamma(alpha + beta)


def _beta_draw(uniform: Callable[[], float], alpha: float, beta: float) -> float:
    """Draw from a Beta distribution by two Gamma variates (Marsaglia and Tsang, 2000, with the boost below 1)."""
    first, second = _gamma_draw(uniform, alpha), _gamma_draw(uniform, beta)
    return first / (first + second) if first + second > 0 else alpha / (alpha + beta)


def _gamma_draw(uniform: Callable[[], float], shape: float) -> float:
    if shape < 1:
        return _gamma_draw(uniform, shape + 1) * float(max(uniform(), 1e-300) ** (1 / shape))
    d = shape - 1 / 3
    while True:
        normal = _normal(uniform)
        v = (1 + normal / (9 * d) ** 0.5) ** 3
        if v > 0 and log(max(uniform(), 1e-300)) < normal**2 / 2 + d - d * v + d * log(v):
            return float(d * v)


def _normal(uniform: Callable[[], float]) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(min(max(uniform(), 1e-12), 1 - 1e-12))


DEFAULT: Final = Learned(always=0.25, alpha=0.5, beta=1.0)
"""The stated prior of a rate that nobody knows."""
