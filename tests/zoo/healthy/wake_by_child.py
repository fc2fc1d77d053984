"""Waits for a process that waits for nothing but the end of its child, by SIGCHLD: as make does, or an init."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys


def tend(seconds: str) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = subprocess.Popen(["sleep", seconds])
    while child.poll() is None:
        select.select([reader], [], [])


def main() -> None:
    if len(sys.argv) > 2:
        tend(sys.argv[1])
    else:
        subprocess.run([sys.executable, __file__, sys.argv[1], "tend"], check=True)
        print("done", flush=True)


if __name__ == "__main__":
    main()
