"""A regular expression backtracks without end in C, with the GIL held, and no other thread runs: bites log parsers."""

from __future__ import annotations

import os
import re
import threading
import time

from harness import child


def heartbeat() -> None:
    while True:
        time.sleep(1)


def main() -> None:
    print(f"suspect pid {os.getpid()}", flush=True)
    threading.Thread(target=heartbeat, daemon=True).start()
    with child.phase("parse"):
        re.match(r"(\w+\s?)+:$", "a" * 64)
    print("passed", flush=True)


if __name__ == "__main__":
    main()
