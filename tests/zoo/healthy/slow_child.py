"""Waits for a child that computes for minutes without a word: the parent is in wait4, the pipe between them silent."""

from __future__ import annotations

import subprocess
import sys

COMPUTE = """
import sys, time
end = time.monotonic() + float(sys.argv[1])
number = 1
while time.monotonic() < end:
    number = number * 6364136223846793005 % (1 << 64) + 1
print(number)
"""


def main() -> None:
    answer = subprocess.run([sys.executable, "-c", COMPUTE, sys.argv[1]], stdout=subprocess.PIPE, check=True)
    print("done", answer.stdout, flush=True)


if __name__ == "__main__":
    main()
