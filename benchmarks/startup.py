"""How long ``crashcart --help`` takes against a bare interpreter that imports the same CLI library.

Prints one ratio, measured in alternation in this run; the issue that asked for it allows 3. Run on an idle machine:
``python benchmarks/startup.py``.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 30
HELP = (str(Path(sys.executable).with_name("crashcart")), "--help")
BARE = (sys.executable, "-c", "import click")


def seconds(command: tuple[str, ...]) -> float:
    """Return the wall time of one run of a command."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure both in alternation and print medians and their ratio."""
    pairs = [(seconds(HELP), seconds(BARE)) for _ in range(ROUNDS)]
    shown, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{platform.machine()}, Python {platform.python_version()}, {ROUNDS} rounds in alternation")
    print(f"crashcart --help {shown * 1e3:.0f} ms, import click {bare * 1e3:.0f} ms, ratio {shown / bare:.2f}")


if __name__ == "__main__":
    main()
