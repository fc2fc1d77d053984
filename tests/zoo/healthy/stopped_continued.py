"""A process is stopped for six seconds and continued by a sibling, again and again: a scheduler's time slices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time


def main() -> None:
    end = time.monotonic() + float(sys.argv[1])
    worker = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    sibling = os.fork()
    if sibling == 0:
        while time.monotonic() < end:
            os.kill(worker.pid, signal.SIGSTOP)
            time.sleep(6)
            os.kill(worker.pid, signal.SIGCONT)
            time.sleep(3)
        worker.kill()
        os._exit(0)
    worker.wait()
    os.waitpid(sibling, 0)
    print("done", flush=True)


if __name__ == "__main__":
    main()
