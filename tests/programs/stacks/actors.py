"""Two Ray actors: one asks the other, which is stuck on a lock."""

from __future__ import annotations

import os
import threading

import ray


@ray.remote
class Stuck:
    def pid(self) -> int:
        return os.getpid()

    def answer(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()


@ray.remote
class Asking:
    def __init__(self, other: ray.actor.ActorHandle) -> None:
        self.other = other

    def pid(self) -> int:
        return os.getpid()

    def ask(self) -> None:
        ray.get(self.other.answer.remote())


def main() -> None:
    ray.init(num_cpus=2, include_dashboard=False)
    stuck = Stuck.remote()  # type: ignore[attr-defined]  # the decorator adds it, and ray is not read
    asking = Asking.remote(stuck)  # type: ignore[attr-defined]  # as above
    print("stuck", ray.get(stuck.pid.remote()), flush=True)
    print("asking", ray.get(asking.pid.remote()), flush=True)
    ray.get(asking.ask.remote())


if __name__ == "__main__":
    main()
