"""The benchmark of what supervision costs ends, with figures or without, also while it keeps the supervisor stopped."""

from __future__ import annotations

import pytest

from benchmarks import overhead

ENGINE = """
import os, sys
print("ready", os.getpid(), flush=True)
for turn, _ in enumerate(sys.stdin):
    if turn == {last}:
        sys.exit("the engine dies")
    print("figure", turn, flush=True)
"""


def test_every_turn_has_its_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "TURNS", ENGINE.format(last=99))
    assert overhead.take_turns(2) == {"watched": [0.0, 3.0], "bare": [1.0, 2.0]}


@pytest.mark.parametrize("last", [0, 1, 2])
def test_an_engine_that_dies_ends_the_benchmark(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """In turns 1 and 2 its supervisor is stopped, and holds the pipe open that nobody writes to any more."""
    monkeypatch.setattr(overhead, "TURNS", ENGINE.format(last=last))
    with pytest.raises(SystemExit, match="the engine ended before it said 'figure'"):
        overhead.take_turns(2)
