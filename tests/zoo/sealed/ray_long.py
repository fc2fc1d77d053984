"""Ray tasks that compute for minutes while the driver waits in ray.get: a healthy offline batch."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

SMALL: Final = 80 * 1024 * 1024


def compute(seconds: float) -> int:
    end = time.monotonic() + seconds
    total = 0
    while time.monotonic() < end:
        total += sum(range(10_000))
    return total


@contextmanager
def private_ray() -> Iterator[Any]:
    import ray

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        token = Path(folder) / "token"
        token.write_text(secrets.token_hex(32))
        os.environ |= {"RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=SMALL,
            _temp_dir=folder,
        )
        try:
            yield ray
        finally:
            ray.shutdown()


def main() -> None:
    seconds = float(sys.argv[1])
    with private_ray() as ray:
        task = ray.remote(compute)
        print("done", len(ray.get([task.remote(seconds * 0.7) for _ in range(2)])), flush=True)


if __name__ == "__main__":
    main()
