"""Waits for a child that somebody stopped: bites batch jobs whose child touched the terminal from the background."""

from __future__ import annotations

import os
import subprocess
import sys

STOP = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"


def main() -> None:
    child = subprocess.Popen([sys.executable, "-c", STOP])
    print(f"suspect pid {child.pid}", flush=True)
    os.waitpid(child.pid, 0)
    print("passed", flush=True)


if __name__ == "__main__":
    main()
