"""Starts the servers of a rollout, says where they are, and puts them to sleep while others need the devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray

from scenarios.workloads.rollout.server import RolloutServer


class RolloutManager:
    """One server for each worker; the manager knows workers by name only."""

    def __init__(self, workers: Sequence[str], environment: Mapping[str, str], settings: Mapping[str, Any]) -> None:
        actor = ray.remote(RolloutServer)
        self.servers = [
            actor.options(num_cpus=1, max_concurrency=64).remote(name, dict(environment), dict(settings))
            for name in workers
        ]
        self.addresses: tuple[str, ...] = ()

    def start(self) -> None:
        """Bring all servers up and note where they are; fails with the error of the first one that does not come."""
        self.addresses = tuple(ray.get([server.start.remote() for server in self.servers]))

    def facts(self) -> list[dict[str, Any]]:
        """Return what the servers say of themselves."""
        found: list[dict[str, Any]] = ray.get([server.facts.remote() for server in self.servers])
        return found

    def sleep(self) -> None:
        """Put all servers to sleep."""
        ray.get([server.sleep.remote() for server in self.servers])

    def wake(self) -> None:
        """Wake all servers."""
        ray.get([server.wake.remote() for server in self.servers])

    def stop(self) -> None:
        """Stop all servers and end their actors, whose interpreters would take seconds to end by themselves."""
        try:
            ray.get([server.stop.remote() for server in self.servers])
        finally:
            for server in self.servers:
                ray.kill(server)
