"""Ticks."""

from __future__ import annotations

import sys
import time

PAUSE_S = 0.02


def main() -> None:
    """Tick as often as the command line says."""
    for number in range(int(sys.argv[1])):
        print(number, flush=True)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
