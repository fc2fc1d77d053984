"""A Python prompt waits on a terminal for somebody who types a line every five seconds."""

from __future__ import annotations

import os
import pty
import sys
import time


def main() -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-q", "-i", "-c", "pass"])  # noqa: S606 - no shell
    end = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end:
        os.write(terminal, b"6 * 7\n")
        time.sleep(5)
        print(os.read(terminal, 4096), flush=True)
    os.write(terminal, b"exit()\n")
    os.waitpid(child, 0)
    print("done", flush=True)


if __name__ == "__main__":
    main()
