"""The figures of a load, on answers with known times."""

from __future__ import annotations

import json
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.workloads.metrics import CUT, Answer, around, measure, percentile, spread, window


def answer(
    *chunk_s: float,
    sent_s: float = 0.0,
    tokens: int | None = None,
    end: str | None = "length",
    error: str | None = None,
) -> Answer:
    return Answer(
        index=0,
        due_s=sent_s,
        sent_s=sent_s,
        chunk_s=chunk_s,
        ended_s=max(chunk_s, default=sent_s),
        prompt_tokens=4,
        output_tokens=len(chunk_s) if tokens is None else tokens,
        finish_reason=end,
        error=error,
    )


def test_the_first_token_is_in_ttft_and_not_in_tpot() -> None:
    """Five tokens: the first after 1 s, the others 0.1 s apart."""
    metrics = measure([answer(1.0, 1.1, 1.2, 1.3, 1.4)], 2.0)
    assert metrics.ttft.mean == pytest.approx(1000)
    assert metrics.tpot.mean == pytest.approx(100)
    assert metrics.itl.mean == pytest.approx(100)
    assert metrics.e2el.mean == pytest.approx(1400)
    assert (metrics.output_tok_s, metrics.total_tok_s) == (2.5, 4.5)


def test_tokens_that_came_in_one_chunk_count_in_tpot_and_not_in_itl() -> None:
    metrics = measure([answer(1.0, 1.4, tokens=5)], 2.0)
    assert metrics.tpot.mean == pytest.approx(100)
    assert metrics.itl.mean == pytest.approx(400)


def test_an_answer_of_one_token_has_no_tpot() -> None:
    metrics = measure([answer(0.5)], 1.0)
    assert metrics.tpot.percentiles[99.0] == 0.0
    assert metrics.requests_ok == 1


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (answer(0.1, 0.2, end=None), CUT),
        (answer(0.1, end="abort"), CUT),
        (answer(end="length"), CUT),
        (answer(0.1, error="ClientPayloadError: broke"), "ClientPayloadError"),
    ],
    ids=["cut", "aborted", "empty", "error"],
)
def test_an_answer_that_did_not_come_to_its_end_is_a_failure_and_in_no_figure(bad: Answer, why: str) -> None:
    """A connection that is closed in good order in the middle of an answer is no success."""
    good = answer(1.0, 1.1)
    metrics = measure([bad, good], 1.0)
    assert (metrics.requests_ok, metrics.requests_failed) == (1, 1)
    assert metrics.output_tokens == 2
    assert metrics.ttft == measure([good], 1.0).ttft
    ((reason, count),) = metrics.failures.items()
    assert (why in reason, count) == (True, 1)
    assert json.loads(json.dumps(metrics.plain()))["failures"] == {reason: 1}


def test_nothing_answered_is_no_division_by_zero() -> None:
    metrics = measure([], 0.0)
    assert (metrics.output_tok_s, metrics.requests_ok, metrics.ttft.mean) == (0.0, 0, 0.0)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=50))
def test_percentiles_are_those_of_linear_interpolation(values: list[float]) -> None:
    """`statistics.quantiles` says the same by another way."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    assert percentile(sorted(values), 99) == pytest.approx(cuts[98], rel=1e-9, abs=1e-9)
    assert spread(values, (50.0,)).percentiles[50.0] == pytest.approx(1000 * statistics.median(values))


def test_windows_hold_every_token_once_and_say_where_a_request_failed() -> None:
    """Before, during and after: the tokens of the windows are those of the answers, the failed one's included."""
    answers = [answer(0.5, 1.5, 2.5), answer(0.25, 1.25, end=None, tokens=0), answer(2.1, 2.2, sent_s=2.0, tokens=4)]
    windows = around(answers, 0.0, 3.0, 1.0, 2.0)
    assert [one.output_tok_s for one in windows] == [2.0, 2.0, 5.0]
    assert [(one.finished, one.failed) for one in windows] == [(0, 0), (0, 1), (2, 0)]


def test_a_moment_outside_the_load_leaves_out_its_window() -> None:
    assert [(one.begin_s, one.end_s) for one in around([], 0.0, 3.0, 2.0, 9.0)] == [(0.0, 2.0), (2.0, 3.0)]


def test_an_empty_window_has_no_rate() -> None:
    assert window([answer(1.0)], 1.0, 1.0).output_tok_s == 0.0
