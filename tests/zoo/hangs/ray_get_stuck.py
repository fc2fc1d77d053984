"""ray.get on an actor whose method never returns: bites every driver that calls ray.get without a timeout."""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from harness import child

SMALL: Final = 80 * 1024 * 1024


class Stuck:
    def pid(self) -> int:
        return os.getpid()

    def work(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()


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
    with private_ray() as ray:
        actor = ray.remote(Stuck).remote()
        print(f"suspect pid {ray.get(actor.pid.remote())}", flush=True)
        with child.phase("rollout"):
            ray.get(actor.work.remote())
        print("passed", flush=True)


if __name__ == "__main__":
    main()
