"""One thread of pure Python computes and says nothing until the end: no system call, no output, no phase."""

from __future__ import annotations

import sys
import time


def collatz(number: int) -> int:
    steps = 0
    while number != 1:
        number = 3 * number + 1 if number % 2 else number // 2
        steps += 1
    return steps


def main() -> None:
    end = time.monotonic() + float(sys.argv[1])
    number = longest = 1
    while time.monotonic() < end:
        for _ in range(5000):
            longest = max(longest, collatz(number))
            number += 1
    print("done", longest, flush=True)


if __name__ == "__main__":
    main()
