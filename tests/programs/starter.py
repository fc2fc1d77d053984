"""Starts another module by its name, has it stopped for a while, and says for how long it was quiet."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from typing import Any, cast

from harness import child

MODULE = "tests.programs.ticker"
TICKS = 40


def main() -> None:
    """Count ticks, and the longest pause between two of them."""

    class Watch:
        """Has a method that is called as a function of the module is."""

        def longest(self, moments: list[float]) -> float:
            return longest(moments)

    ticker = subprocess.Popen([sys.executable, "-m", "tests.programs.ticker", str(TICKS)], stdout=subprocess.PIPE)
    pipe: Any = ticker.stdout
    moments = []
    for line in pipe:
        moments.append(time.monotonic())
        if line.strip() == b"3":
            child.mark("ticking", title=MODULE)
    seconds = round(Watch().longest(moments), 2)
    child.mark("ticked", ticks=len(moments), longest=cast("child.Json", seconds), code=ticker.wait())
    child.finish()


def longest(moments: list[float]) -> float:
    """Return the longest pause."""
    return max(later - before for before, later in itertools.pairwise(moments))


if __name__ == "__main__":
    main()
