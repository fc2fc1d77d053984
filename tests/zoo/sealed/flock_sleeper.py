"""Waits for a file lock whose holder sleeps without end: bites shared caches behind flock, such as model downloads."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile

from harness import child


def main() -> None:
    with tempfile.TemporaryFile() as file:
        path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
        holder = subprocess.Popen(
            ["bash", "-c", f"exec 9<>{path}; flock 9; echo held; exec sleep infinity"], stdout=subprocess.PIPE
        )
        print(f"suspect pid {holder.pid}", flush=True)
        if holder.stdout:
            holder.stdout.readline()
        with child.phase("load"):
            fcntl.flock(file, fcntl.LOCK_EX)
        print("passed", flush=True)


if __name__ == "__main__":
    main()
