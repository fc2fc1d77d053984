"""Declares a phase and sleeps through it to a known end: a back-off between two attempts that the user asked for."""

from __future__ import annotations

import sys
import time

from harness import child


def main() -> None:
    with child.phase("cool_down"):
        time.sleep(float(sys.argv[1]))
    print("done", flush=True)


if __name__ == "__main__":
    main()
