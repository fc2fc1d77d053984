"""The cells of `graph_capture`: a pairwise selection for short suites, and what completes the matrix."""

from __future__ import annotations

from itertools import product

from harness.spec import Params, Row

MODES = ("global", "thread_local", "relaxed")


def _row(*suites: str, **params: str) -> Row:
    without_a_gpu = frozenset({"laptop"})
    return Row(params=params, suites=frozenset({"full", "gpu-full", *suites}), may_be_untestable=without_a_gpu)


def rows() -> tuple[Row, ...]:
    """Return a pairwise selection for short suites, and behind it what completes the matrix."""
    every = ("gpu1", "rocm")
    short = [
        _row(*every, "laptop", trigger="event_query"),
        _row(*every, trigger="event_query", mode="thread_local"),
        _row(*every, "laptop", trigger="event_query", guard="thread_local"),
        _row("gpu1", trigger="event_query", streams="forked"),
        _row("gpu1", trigger="event_query", mode="relaxed", streams="forked"),
        _row(*every, trigger="malloc", streams="joined"),
        _row(*every, trigger="malloc", mode="relaxed", streams="joined"),
        _row("gpu1", trigger="malloc", guard="relaxed"),
        _row("gpu1", trigger="malloc"),
        _row("gpu1", trigger="malloc", mode="thread_local"),
        _row(*every, trigger="synchronize"),
        _row(*every, trigger="synchronize", guard="after_capture"),
        _row("gpu1", trigger="synchronize", mode="relaxed"),
        _row("gpu1", trigger="synchronize", mode="relaxed", guard="after_capture"),
        _row(*every, streams="unjoined"),
        _row(*every, streams="joined"),
        _row("gpu1", streams="off", mode="thread_local"),
        _row("gpu1", streams="forked", mode="thread_local"),
        _row(*every, streams="default"),
        _row(*every),
        _row("gpu1", "rocm", stack="vllm", graphs="full"),
        _row("gpu1", stack="vllm", graphs="piecewise"),
        _row("gpu1", "rocm", stack="vllm", graphs="off"),
        _row("rocm", stack="vllm", graphs="full", all_reduce="custom"),
        _row("rocm", stack="vllm", graphs="full", all_reduce="nccl"),
        _row(stack="sglang", graphs="full"),
        _row(stack="sglang", graphs="off"),
        Row(params={"stack": "sglang", "graphs": "full", "all_reduce": "aiter"}, suites=frozenset({"full", "rocm"})),
        _row("rocm", stack="sglang", graphs="full", all_reduce="custom"),
        _row("rocm", stack="sglang", graphs="full", all_reduce="nccl"),
        _row("gpu2", "rocm", trigger="watchdog"),
        _row("gpu2", "rocm", trigger="watchdog", mode="thread_local"),
    ]
    triggers, guards = ("event_query", "malloc", "synchronize"), ("none", "thread_local", "relaxed", "after_capture")
    matrix = [
        _row(trigger=trigger, mode=mode, guard=guard) for trigger, mode, guard in product(triggers, MODES, guards)
    ]
    matrix += [_row(mode=mode, guard=guard) for mode, guard in product(MODES, ("none", "thread_local", "relaxed"))]
    arrangements = ("one", "forked", "joined", "off", "default", "unjoined")
    matrix += [_row(mode=mode, streams=streams) for mode, streams in product(MODES, arrangements)]
    listed = [row.params for row in short]
    defaults = {"trigger": "none", "mode": "global", "guard": "none", "streams": "one"}
    return (
        *short,
        *(row for row in _distinct(matrix, defaults) if not any(_same(row.params, one, defaults) for one in listed)),
    )


def _same(one: Params, other: Params, defaults: Params) -> bool:
    return {**defaults, **one} == {**defaults, **other}


def _distinct(rows: list[Row], defaults: Params) -> list[Row]:
    return list({tuple(sorted({**defaults, **row.params}.items())): row for row in rows}.values())
