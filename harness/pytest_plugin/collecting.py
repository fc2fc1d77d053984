"""Reads the marks of collected tests into their stashes, and skips what this machine has no hardware for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.pytest_plugin.hardware import matching, read_pool
from harness.pytest_plugin.keys import GUARD, SCENARIO, WANT
from harness.pytest_plugin.marks import read_guard, read_want

GPU_MARKS = ("gpu", "cuda", "rocm")


def read_marks(config: pytest.Config, items: Sequence[pytest.Item], *, everything: bool) -> None:
    """Give every test that is supervised its guard, and every one that needs GPUs its wish, or a skip.

    Raises:
        pytest.UsageError: If a mark cannot be understood; the line names the first test that has it.
    """
    defaults = {"timeout": config.option.crashcart_timeout, "reruns": config.getoption("reruns", None) or 0}
    for item in items:
        try:
            want = read_want([mark for mark in item.iter_markers() if mark.name in GPU_MARKS])
            supervised = list(item.iter_markers("supervised"))
            if supervised or want is not None or everything:
                item.stash[GUARD] = read_guard(supervised, item.get_closest_marker("flaky"), defaults)
        except pytest.UsageError as error:
            msg = f"{item.nodeid}: {error}"
            raise pytest.UsageError(msg) from None
        if (mark := item.get_closest_marker("scenario")) is not None:
            item.stash[SCENARIO] = mark
        if want is not None:
            item.stash[WANT] = want
            if not config.option.collectonly and (why := _lacking(config, item)):
                item.add_marker(pytest.mark.skip(reason=why), append=False)
                del item.stash[GUARD]


def _lacking(config: pytest.Config, item: pytest.Item) -> str:
    pool, how = read_pool(config)
    want = item.stash[WANT]
    found = matching(pool, want)
    if len(found) >= want.count:
        return ""
    return f"needs {want.describe()}; {how} shows {len(found)} of that kind ({len(pool)} in all)"
