"""A forked worker uses the OpenMP pool that its parent had started, whose threads it lacks: bites DataLoader workers.

References: pytorch#17199, pytorch#75147 and GCC's bug 58378 on libgomp after fork.
"""

from __future__ import annotations

import multiprocessing
import os


def load_batch() -> None:
    import torch

    print("passed", float(torch.ones(4_000_000).sum()), flush=True)


def main() -> None:
    import torch

    torch.set_num_threads(2)
    torch.ones(4_000_000).sum()  # starts the pool of this process
    worker = multiprocessing.get_context("fork").Process(target=load_batch)
    worker.start()
    print(f"suspect pid {worker.pid}\nsuspect pid {os.getpid()}", flush=True)
    worker.join()


if __name__ == "__main__":
    main()
