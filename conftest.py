"""Fails a test that leaves a process of its own behind, and never one because the machine is slow."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import psutil
import pytest

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no counterexample
hypothesis.settings.load_profile("untimed")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: the programs of tests are not
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Compare our children before and after a test; name and end what a test has left."""
    me = psutil.Process(os.getpid())
    before = {child.pid for child in me.children(recursive=True)}
    yield
    left = [child for child in me.children(recursive=True) if child.pid not in before]
    alive = [child for child in left if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    titles = {child.pid: " ".join(child.cmdline())[:80] for child in alive}
    names = [f"{pid} {title}" for pid, title in titles.items() if title]  # one that is just ending has none any more
    for child in alive:
        child.kill()
    assert not names, f"processes left behind: {names}"
