"""Compresses and hashes one large buffer in single calls of many seconds: no system call in between."""

from __future__ import annotations

import hashlib
import random
import sys
import time
import zlib


def main() -> None:
    end = time.monotonic() + float(sys.argv[1])
    data = random.Random(1).randbytes(1 << 20) * 160
    while time.monotonic() < end:
        print(hashlib.sha256(data).hexdigest(), len(zlib.compress(data, 9)), flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main()
