"""torch.compile of one function after another: inductor's C++ compiler works, the main thread waits for it."""

from __future__ import annotations

import os
import sys
import tempfile
import time


def main() -> None:
    end = time.monotonic() + float(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        import torch

        depth = 2
        while time.monotonic() < end:

            def layers(value: torch.Tensor, depth: int = depth) -> torch.Tensor:
                for number in range(depth):
                    value = torch.relu(value * number + value.sum(dim=-1, keepdim=True)).sin()
                return value

            torch._dynamo.reset()
            compiled = torch.compile(layers)
            print(depth, float(compiled(torch.ones(64, 64)).sum()), flush=True)
            depth += 1
    print("done", flush=True)


if __name__ == "__main__":
    main()
