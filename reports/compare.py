"""Two runs against each other, cell by cell. Nothing is averaged over cells, and no row of either side is left out.

Verdict flips come first, then what only one side has, then what changed in another way, then the rest. A figure is
compared only where both sides have the same verdict and signature, and only over attempts with that verdict: the time
of a crash and the time of a success are unlike things.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import exp, isclose, log, sqrt
from pathlib import Path
from statistics import fmean, variance
from typing import Final

from harness.judge import Row
from harness.outcome import Rate, Verdict, VerdictName, reproduction_rate
from harness.record import Manifest, read_manifest
from reports.evidence import flat
from reports.judged import cell_of, cells_by_id, judge_attempts
from reports.load import load_rows
from reports.log import Log

TESTED: Final = frozenset({VerdictName.REPRODUCED, VerdictName.ABSENT, VerdictName.OTHER_FAILURE})
T_975: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Two-sided 95% quantiles of Student's t, 1 to 30 degrees of freedom; above, the last one, which is a little wide."""


class Group(StrEnum):
    """How the two sides of a cell stand to each other, in the order in which they are shown."""

    FLIP = "verdict flip"
    ONLY_A = "only in A"
    ONLY_B = "only in B"
    NOT_COMPARABLE = "not comparable"
    SIGNATURE = "other signature"
    SAME = "same verdict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A figure of B divided by that of A: geometric means over attempts, 95% interval by Welch on logarithms."""

    value: float
    low: float | None
    high: float | None
    attempts: tuple[int, int]
    higher_is_better: bool

    @property
    def direction(self) -> str:
        """What the ratio means for B, in a word; ``unclear`` where the interval holds 1 or there is none."""
        if self.low is None or self.high is None or self.low <= 1 <= self.high:
            return "unclear"
        return "better" if (self.value > 1) is self.higher_is_better else "worse"

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"×{self.value:.2f} (no interval: {self.attempts[0]} and {self.attempts[1]} attempts)"
        return f"×{self.value:.2f} [{self.low:.2f}, {self.high:.2f}] {self.direction}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Reproduction rate of B minus that of A, with Newcombe's 95% interval from the two Wilson ones."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        word = "unclear" if self.low <= 0 <= self.high else "more often" if self.value > 0 else "less often"
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}] {word}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A cell on both sides; ``None`` where a side does not have it."""

    cell: str
    a: Row | None
    b: Row | None
    group: Group
    rate: Difference | None = None
    wall: Ratio | None = None
    tokens: Ratio | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One run of a comparison."""

    directory: Path
    manifest: Manifest
    rows: tuple[Row, ...]
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs against each other."""

    a: Side
    b: Side
    pairs: tuple[Pair, ...]

    @property
    def flips(self) -> int:
        """In how many cells the verdict is another one, of those that were tested on both sides."""
        return sum(pair.group is Group.FLIP for pair in self.pairs)

    def differing_facts(self) -> list[tuple[str, str, str]]:
        """Return the facts of the machines and their software that are not the same, by name."""
        names = dict.fromkeys((*self.a.facts, *self.b.facts))
        pairs = ((name, self.a.facts.get(name, "-"), self.b.facts.get(name, "-")) for name in names)
        return [(name, a, b) for name, a, b in pairs if a != b]


def compare(directory_a: Path, directory_b: Path) -> Comparison:
    """Compare two runs by the ids of their cells.

    Raises:
        RecordError: If one of them is no run, or has no results.
    """
    a, b = _side(directory_a), _side(directory_b)
    rows_a, rows_b = ({row.cell: row for row in side.rows} for side in (a, b))
    log_a, log_b = (Figures(side.directory, side.manifest) for side in (a, b))
    pairs = [
        _pair(cell, rows_a.get(cell), rows_b.get(cell), log_a, log_b) for cell in dict.fromkeys((*rows_a, *rows_b))
    ]
    order = list(Group)
    return Comparison(a=a, b=b, pairs=tuple(sorted(pairs, key=lambda pair: order.index(pair.group))))


def group_of(a: Row | None, b: Row | None) -> Group:
    """Return how two rows of one cell stand to each other. Rows of different kinds are never compared."""
    if a is None or b is None:
        return Group.ONLY_B if a is None else Group.ONLY_A
    if a.verdict not in TESTED or b.verdict not in TESTED or a.kind is not b.kind:
        return Group.SAME if a.verdict is b.verdict and a.kind is b.kind else Group.NOT_COMPARABLE
    if a.verdict is not b.verdict:
        return Group.FLIP
    return Group.SAME if a.signature == b.signature else Group.SIGNATURE


def ratio(a: Sequence[float], b: Sequence[float], *, higher_is_better: bool) -> Ratio | None:
    """Return B's geometric mean over A's; ``None`` without a positive value on each side."""
    logs_a, logs_b = ([log(value) for value in values if value > 0] for values in (a, b))
    if not logs_a or not logs_b:
        return None
    counts = (len(logs_a), len(logs_b))
    centre = fmean(logs_b) - fmean(logs_a)
    if min(counts) == 1:
        return Ratio(value=exp(centre), low=None, high=None, attempts=counts, higher_is_better=higher_is_better)
    parts = [variance(logs) / len(logs) for logs in (logs_a, logs_b)]
    weights = sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
    freedom = int(sum(parts) ** 2 / weights) if weights else len(T_975)
    spread = T_975[max(1, min(freedom, len(T_975))) - 1] * sqrt(sum(parts))
    return Ratio(
        value=exp(centre),
        low=exp(centre - spread),
        high=exp(centre + spread),
        attempts=counts,
        higher_is_better=higher_is_better,
    )


def difference(a: Row, b: Row) -> Difference | None:
    """Return the difference of two reproduction rates; ``None`` where a side has none.

    Source: R. G. Newcombe, Interval estimation for the difference between independent proportions, Statist. Med. 17
    (1998), method 10.
    """
    share_a, share_b = share(a), share(b)
    if share_a is None or share_b is None or a.rate is None or b.rate is None:
        return None
    value = share_b - share_a
    return Difference(
        value=value,
        low=value - sqrt((share_b - b.rate.low) ** 2 + (a.rate.high - share_a) ** 2),
        high=value + sqrt((b.rate.high - share_b) ** 2 + (share_a - a.rate.low) ** 2),
    )


def share(row: Row) -> float | None:
    """Return reproduced attempts over reproduced and absent ones; how many were absent follows from the interval."""
    if row.rate is None:
        return None
    for absent in range(row.attempts - row.reproduced + 1):
        if _same(_wilson(row.reproduced, absent), row.rate):
            return row.reproduced / (row.reproduced + absent)
    return None


def _wilson(hits: int, absent: int) -> Rate | None:
    hit, miss = Verdict(name=VerdictName.REPRODUCED), Verdict(name=VerdictName.ABSENT)
    return reproduction_rate([hit] * hits + [miss] * absent)


def _same(one: Rate | None, other: Rate) -> bool:
    return one is not None and isclose(one.low, other.low, abs_tol=1e-6) and isclose(one.high, other.high, abs_tol=1e-6)


class Figures:
    """The figures of a run's attempts; its log is indexed only if a cell was repeated."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._directory = directory
        self._log: Log | None = None
        self._cells = cells_by_id(manifest)

    def of(self, row: Row) -> Iterable[tuple[float, float | None]]:
        """Yield wall time, in seconds, and output tokens per second of each attempt that had the row's verdict."""
        if row.attempts <= 1:
            yield row.wall_s, (row.throughput or {}).get("output_tok_s")
            return
        self._log = self._log or Log(self._directory)
        for attempt in judge_attempts(self._log, cell_of(self._cells, row), row):
            if attempt.verdict is not None and attempt.verdict.name is row.verdict:
                yield attempt.attempt.wall_s, attempt.output_tok_s


def _pair(cell: str, a: Row | None, b: Row | None, log_a: Figures, log_b: Figures) -> Pair:
    group = group_of(a, b)
    if a is None or b is None or a.kind is not b.kind:
        return Pair(cell=cell, a=a, b=b, group=group)
    if group is not Group.SAME or a.verdict not in TESTED:
        return Pair(cell=cell, a=a, b=b, group=group, rate=difference(a, b))
    figures_a, figures_b = list(log_a.of(a)), list(log_b.of(b))
    tokens_a, tokens_b = ([tokens for _, tokens in figures if tokens] for figures in (figures_a, figures_b))
    return Pair(
        cell=cell,
        a=a,
        b=b,
        group=group,
        rate=difference(a, b),
        wall=ratio([wall for wall, _ in figures_a], [wall for wall, _ in figures_b], higher_is_better=False),
        tokens=ratio(tokens_a, tokens_b, higher_is_better=True),
    )


def _side(directory: Path) -> Side:
    manifest = read_manifest(directory)
    facts = {"run": manifest.run, "crashcart": manifest.crashcart, "argv": " ".join(manifest.argv)}
    facts |= dict(flat({"environment": manifest.environment, "capabilities": manifest.capabilities}))
    return Side(directory=directory, manifest=manifest, rows=tuple(load_rows(directory)), facts=facts)
