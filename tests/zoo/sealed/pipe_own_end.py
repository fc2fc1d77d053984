"""Reads a pipe to its end, but holds the writing end itself, so that no end comes: bites fork without close."""

from __future__ import annotations

import os


def main() -> None:
    print(f"suspect pid {os.getpid()}", flush=True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"result")
        os._exit(0)
    answer = b""
    while part := os.read(reading, 4096):
        answer += part
    os.waitpid(child, 0)
    print("passed", answer, flush=True)


if __name__ == "__main__":
    main()
