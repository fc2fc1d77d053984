"""posix_spawn opens a FIFO in the child before exec, and the parent waits in D: bites who redirects to FIFOs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def main() -> None:
    print(f"suspect pid {os.getpid()}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        fifo = Path(folder) / "input"
        os.mkfifo(fifo)
        actions = [(os.POSIX_SPAWN_OPEN, 0, str(fifo), os.O_RDONLY, 0)]
        os.posix_spawn("/bin/cat", ["cat"], os.environ, file_actions=actions)
        print("passed", flush=True)


if __name__ == "__main__":
    main()
