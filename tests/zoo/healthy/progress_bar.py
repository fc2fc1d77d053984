"""Computes quietly and shows its progress every few seconds, on one line, as progress bars do."""

from __future__ import annotations

import sys
import time


def main() -> None:
    seconds = float(sys.argv[1])
    start = time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        sys.stdout.write(f"\r{passed / seconds:4.0%} {'#' * int(40 * passed / seconds)}")
        sys.stdout.flush()
        sum(i * i for i in range(40_000_000))
    print("\ndone", flush=True)


if __name__ == "__main__":
    main()
