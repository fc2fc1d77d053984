"""What a load came to, with the definitions of ``vllm bench serve``. Standard library only, and pure.

One difference, on purpose: an answer counts as given only if it came to its end. A server that goes away in the middle
of a stream may close the connection in good order; ``vllm bench serve`` takes such an answer for a success, and for one
that stops with an error inside the stream, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from statistics import fmean, median, pstdev
from typing import Any, Final

PERCENTILES: Final = (50.0, 90.0, 99.0)
ENDS: Final = frozenset({"stop", "length", "tool_calls", "function_call"})
"""Reasons to finish that mean that the server came to the end of its answer."""
CUT: Final = "the stream ended before the answer did"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The story of one request. Times are seconds of the monotonic clock, as those of the record (`time.monotonic`)."""

    index: int
    """Place in the order of the requests."""
    due_s: float
    """When it was to be sent; what lies between this and ``sent_s`` was spent waiting for the client's own limit."""
    sent_s: float
    chunk_s: tuple[float, ...] = ()
    """When each chunk of the answer arrived; a chunk is a token, or several where the client was slow."""
    ended_s: float
    """When the answer or the failure was complete."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    """As the server counted, or else the chunks; 0 if it did not come to its end."""
    finish_reason: str | None = None
    error: str | None = None
    """Type and text of what went wrong."""
    text: str = ""
    server: str = ""

    @property
    def ok(self) -> bool:
        """Whether the answer came to its end."""
        return self.error is None and self.finish_reason in ENDS and bool(self.chunk_s)

    @property
    def failure(self) -> str | None:
        """Why it is not `ok`, or ``None``."""
        if self.ok:
            return None
        return self.error or f"{CUT} (finish_reason {self.finish_reason}, {len(self.chunk_s)} chunks)"

    @property
    def ttft_s(self) -> float:
        """Time to the first token; 0 if none came."""
        return self.chunk_s[0] - self.sent_s if self.chunk_s else 0.0

    @property
    def latency_s(self) -> float:
        """Time from sending to the last token, which is what E2EL means; what comes after it carries no token."""
        return self.chunk_s[-1] - self.sent_s if self.chunk_s else 0.0

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """The times between chunks, which are the inter-token latencies."""
        return tuple(after - before for before, after in pairwise(self.chunk_s))

    @property
    def tpot_s(self) -> float | None:
        """Time per output token without the first one; ``None`` where there was only one."""
        return (self.latency_s - self.ttft_s) / (self.output_tokens - 1) if self.output_tokens > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A figure over requests, in milliseconds; all 0 where there was none."""

    mean: float
    median: float
    std: float
    percentiles: Mapping[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a load came to. Latencies are over answers that came to their end."""

    duration_s: float
    requests_ok: int
    requests_failed: int
    input_tokens: int
    output_tokens: int
    request_throughput: float
    output_tok_s: float
    total_tok_s: float
    ttft: Spread
    tpot: Spread
    itl: Spread
    e2el: Spread
    queue: Spread
    """Time that requests waited for the client's own limit of concurrency; in no other figure."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Why requests failed, and how many did for that reason."""

    def row(self) -> dict[str, float]:
        """Return the ``throughput`` of a result row."""
        return {
            "output_tok_s": round(self.output_tok_s, 1),
            "ttft_ms": round(self.ttft.median, 2),
            "tpot_ms": round(self.tpot.median, 3),
            "requests_ok": self.requests_ok,
            "requests_failed": self.requests_failed,
        }

    def plain(self) -> dict[str, Any]:
        """Return everything as JSON values, for an observation."""
        plain = asdict(self)
        for name in ("ttft", "tpot", "itl", "e2el", "queue"):
            plain[name]["percentiles"] = {f"{p:g}": value for p, value in plain[name]["percentiles"].items()}
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What happened between two moments."""

    begin_s: float
    end_s: float
    output_tok_s: float
    finished: int
    failed: int


def measure(answers: Sequence[Answer], duration_s: float, percentiles: Sequence[float] = PERCENTILES) -> Metrics:
    """Return the metrics of a load that took ``duration_s`` seconds from the first request to the last answer."""
    good = [answer for answer in answers if answer.ok]
    taken = sum(answer.prompt_tokens for answer in good)
    given = sum(answer.output_tokens for answer in good)

    def per_second(count: float) -> float:
        return count / duration_s if duration_s > 0 else 0.0

    return Metrics(
        duration_s=duration_s,
        requests_ok=len(good),
        requests_failed=len(answers) - len(good),
        input_tokens=taken,
        output_tokens=given,
        request_throughput=per_second(len(good)),
        output_tok_s=per_second(given),
        total_tok_s=per_second(taken + given),
        ttft=spread((answer.ttft_s for answer in good), percentiles),
        tpot=spread((answer.tpot_s for answer in good if answer.tpot_s is not None), percentiles),
        itl=spread((gap for answer in good for gap in answer.gaps_s), percentiles),
        e2el=spread((answer.latency_s for answer in good), percentiles),
        queue=spread((answer.sent_s - answer.due_s for answer in good), percentiles),
        failures=dict(Counter(answer.failure for answer in answers if answer.failure is not None)),
    )


def spread(seconds: Iterable[float], percentiles: Sequence[float] = PERCENTILES) -> Spread:
    """Return mean, median, population deviation and percentiles of times in seconds, in milliseconds."""
    values = sorted(1000.0 * value for value in seconds) or [0.0]
    return Spread(
        mean=fmean(values),
        median=median(values),
        std=pstdev(values),
        percentiles={p: percentile(values, p) for p in percentiles},
    )


def percentile(ordered: Sequence[float], p: float) -> float:
    """Return a percentile of ordered values, with linear interpolation between neighbours (numpy's default)."""
    place = (len(ordered) - 1) * p / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def window(answers: Iterable[Answer], begin_s: float, end_s: float) -> Window:
    """Return the throughput between two moments: of every token that arrived then, whatever became of its request."""
    tokens, finished, failed = 0.0, 0, 0
    for answer in answers:
        weight = max(1.0, answer.output_tokens / len(answer.chunk_s)) if answer.chunk_s else 0.0
        tokens += weight * sum(begin_s <= moment < end_s for moment in answer.chunk_s)
        if begin_s <= answer.ended_s < end_s:
            finished += answer.ok
            failed += not answer.ok
    seconds = end_s - begin_s
    return Window(
        begin_s=begin_s,
        end_s=end_s,
        output_tok_s=tokens / seconds if seconds > 0 else 0.0,
        finished=finished,
        failed=failed,
    )


def around(answers: Sequence[Answer], begin_s: float, end_s: float, *moments: float) -> list[Window]:
    """Return the windows between begin, each of the moments, and end: before, during and after a fault, for example.

    Moments outside the load leave out the window that would be empty.
    """
    edges = [begin_s, *sorted(moment for moment in moments if begin_s < moment < end_s), end_s]
    return [window(answers, before, after) for before, after in pairwise(edges)]
