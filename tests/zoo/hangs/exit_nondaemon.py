"""main() returns, and the interpreter waits for a thread that waits for work: bites whoever forgot daemon=True."""

from __future__ import annotations

import os
import queue
import threading

work: queue.Queue[str] = queue.Queue()


def consume() -> None:
    while True:
        print(work.get(), flush=True)


def main() -> None:
    print(f"suspect pid {os.getpid()}", flush=True)
    threading.Thread(target=consume, name="consumer").start()
    work.put("the last item")


if __name__ == "__main__":
    main()
