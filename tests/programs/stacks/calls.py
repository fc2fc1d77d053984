"""Python functions that call each other through C and without leaving the interpreter's loop, in two threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator


def leaf() -> None:
    time.sleep(600)


def key(_: int) -> int:
    leaf()
    return 0


def middle() -> None:
    sorted([1], key=key)


class Caller(threading.Thread):
    def run(self) -> None:
        middle()


def generated() -> Iterator[int]:
    middle()
    yield 1


print(os.getpid(), flush=True)
Caller(daemon=True).start()
next(generated())
