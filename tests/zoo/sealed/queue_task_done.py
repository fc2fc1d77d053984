"""queue.join waits for a task_done that an error path left out: bites worker loops with `continue`."""

from __future__ import annotations

import os
import queue
import threading

work: queue.Queue[int] = queue.Queue()


def consume() -> None:
    while True:
        if work.get() == 3:
            continue  # a bad item
        work.task_done()


def main() -> None:
    print(f"suspect pid {os.getpid()}", flush=True)
    for _ in range(2):
        threading.Thread(target=consume, daemon=True).start()
    for number in range(5):
        work.put(number)
    work.join()
    print("passed", flush=True)


if __name__ == "__main__":
    main()
