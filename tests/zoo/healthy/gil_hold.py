"""One product of big integers holds the GIL for many seconds, and the heartbeat thread stands still meanwhile."""

from __future__ import annotations

import sys
import threading
import time


def heartbeat() -> None:
    while True:
        time.sleep(0.5)


def main() -> None:
    end = time.monotonic() + float(sys.argv[1])
    threading.Thread(target=heartbeat, daemon=True).start()
    while time.monotonic() < end:
        number = (1 << 13_000_000) // 3
        print((number * number).bit_length(), flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main()
