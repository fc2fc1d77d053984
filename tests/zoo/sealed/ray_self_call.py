"""An actor calls a method of its own through its handle and waits: bites nested controllers that look themselves up."""

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


class Controller:
    def pid(self) -> int:
        return os.getpid()

    def step(self, me: Any) -> int:
        import ray

        return int(ray.get(me.pid.remote()))


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
        actor = ray.remote(Controller).remote()
        print(f"suspect pid {ray.get(actor.pid.remote())}\nsuspect pid {os.getpid()}", flush=True)
        with child.phase("step"):
            ray.get(actor.step.remote(actor))
        print("passed", flush=True)


if __name__ == "__main__":
    main()
