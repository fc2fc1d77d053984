"""Three threads wait for a lock that the fourth holds for eight seconds of sleep: slow, in turns, and no deadlock."""

from __future__ import annotations

import sys
import threading
import time

lock = threading.Lock()


def work(end: float) -> None:
    while time.monotonic() < end:
        with lock:
            time.sleep(8)


def main() -> None:
    end = time.monotonic() + float(sys.argv[1])
    threads = [threading.Thread(target=work, args=(end - 32,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("done", flush=True)


if __name__ == "__main__":
    main()
