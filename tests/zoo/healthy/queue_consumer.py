"""A consumer process that another process feeds every four seconds: it waits on a pipe most of the time."""

from __future__ import annotations

import multiprocessing
import sys
import time
from typing import Any


def consume(items: Any) -> None:
    while (item := items.get()) is not None:
        print("item", item, flush=True)


def main() -> None:
    context = multiprocessing.get_context("fork")
    items = context.Queue()
    consumer = context.Process(target=consume, args=(items,))
    consumer.start()
    end = time.monotonic() + float(sys.argv[1])
    number = 0
    while time.monotonic() < end:
        items.put(number)
        number += 1
        time.sleep(4)
    items.put(None)
    consumer.join()
    print("done", flush=True)


if __name__ == "__main__":
    main()
