"""Matrix products in one library call after another: the main thread is in C for seconds at a time."""

from __future__ import annotations

import sys
import time


def main() -> None:
    import torch

    torch.set_num_threads(2)
    end = time.monotonic() + float(sys.argv[1])
    value = torch.rand(3000, 3000)
    while time.monotonic() < end:
        value = torch.linalg.qr(value @ value)[0]
    print("done", float(value.sum()), flush=True)


if __name__ == "__main__":
    main()
