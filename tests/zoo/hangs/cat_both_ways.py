"""Writes all input to a filter before reading any output, and both pipes fill: bites home-made communicate()."""

from __future__ import annotations

import os
import subprocess


def main() -> None:
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    print(f"suspect pid {os.getpid()}\nsuspect pid {child.pid}", flush=True)
    if child.stdin and child.stdout:
        child.stdin.write(b"x" * 1_000_000)
        child.stdin.close()
        child.stdout.read()
    print("passed", flush=True)


if __name__ == "__main__":
    main()
