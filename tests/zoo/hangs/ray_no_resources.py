"""ray.get on a task that asks for more CPUs than there will ever be: bites jobs on a smaller cluster than planned."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from harness import child

SMALL: Final = 80 * 1024 * 1024


def shard() -> int:
    return 7


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
    print(f"suspect pid {os.getpid()}", flush=True)
    with private_ray() as ray, child.phase("placement"):
        print("passed", ray.get(ray.remote(num_cpus=64)(shard).remote()), flush=True)


if __name__ == "__main__":
    main()
