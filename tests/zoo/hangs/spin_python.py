"""Waits for a flag by looking at it, and the thread that would set it is gone: bites home-made completion flags."""

from __future__ import annotations

import os
import threading

from harness import child

state = {"done": False}


def finish(answer: str) -> None:
    if answer == "ok":
        state["done"] = True


def main() -> None:
    print(f"suspect pid {os.getpid()}", flush=True)
    with child.phase("generate"):
        threading.Thread(target=finish, args=("error",)).start()
        while not state["done"]:
            pass
    print("passed", flush=True)


if __name__ == "__main__":
    main()
