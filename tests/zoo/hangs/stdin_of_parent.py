"""Waits for a child that waits for the parent to close its stdin: bites wrappers of filters such as sort or gzip."""

from __future__ import annotations

import os
import subprocess


def main() -> None:
    child = subprocess.Popen(["sort"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    print(f"suspect pid {os.getpid()}\nsuspect pid {child.pid}", flush=True)
    if child.stdin:
        child.stdin.write(b"b\na\n")
        child.stdin.flush()
    child.wait()
    print("passed", flush=True)


if __name__ == "__main__":
    main()
