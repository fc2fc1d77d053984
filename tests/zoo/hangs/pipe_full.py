"""Waits for a child whose stdout is a pipe that nobody reads: the warning in the documentation of Popen.wait."""

from __future__ import annotations

import os
import subprocess
import sys

TALK = "import sys; sys.stdout.write('x' * 1_000_000); sys.stdout.flush()"


def main() -> None:
    child = subprocess.Popen([sys.executable, "-c", TALK], stdout=subprocess.PIPE)
    print(f"suspect pid {os.getpid()}\nsuspect pid {child.pid}", flush=True)
    child.wait()
    print("passed", flush=True)


if __name__ == "__main__":
    main()
