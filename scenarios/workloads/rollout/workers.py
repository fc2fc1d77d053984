"""Worker actors that hold a model, and the groups that hold the actors: strongly, or by name alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Self

import ray

NAMESPACE: Final = "rollout"
ANSWER_S: Final = 120.0
"""How long a worker may take to answer, in seconds: on some disks the first import of vLLM takes half a minute."""


class RolloutWorker:
    """One rank of an engine. The executor of the engine calls `execute_method` as if the worker were its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        from vllm.v1.worker.worker_base import WorkerWrapperBase

        self._wrapper = WorkerWrapperBase(rpc_rank=0)

    def execute_method(self, method: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a method of vLLM's worker and return its result."""
        from vllm.v1.outputs import AsyncModelRunnerOutput
        from vllm.v1.serial_utils import run_method

        result = run_method(self._wrapper, method, args, kwargs)
        return result.get_output() if isinstance(result, AsyncModelRunnerOutput) else result

    def ping(self) -> int:
        """Return the pid."""
        return os.getpid()

    def invariant(self) -> int:
        """Return 1 where vLLM has put other operations in the place of those whose sums depend on the batch."""
        try:
            from vllm.model_executor.layers import batch_invariant
        except ImportError:  # builds for CPUs are without it
            return 0
        return int(batch_invariant._batch_invariant_MODE)  # noqa: SLF001 - what is in effect, not what was asked for


class WorkerGroup:
    """Worker actors under names. It holds itself by its bound calls, as trainers' groups do.

    So nothing but Python's cyclic garbage collector ever frees it.
    """

    def __init__(self, names: Sequence[str], handles: Sequence[Any]) -> None:
        self.names = tuple(names)
        self.handles = list(handles)
        self.calls: dict[str, Callable[[], list[int]]] = {
            name: partial(self._ask, name) for name in ("ping", "invariant")
        }

    def _ask(self, method: str) -> list[int]:
        asked = [getattr(handle, method).remote() for handle in self.handles]
        found: list[int] = ray.get(asked, timeout=ANSWER_S)
        return found

    @classmethod
    def create(cls, names: Sequence[str], environment: Mapping[str, str], *, gpus: int = 0) -> Self:
        """Start one actor for each name, with so many GPUs of its own."""
        actor = ray.remote(RolloutWorker)
        options = {"namespace": NAMESPACE, "num_cpus": 1, "num_gpus": gpus}
        return cls(names, [actor.options(name=name, **options).remote(dict(environment)) for name in names])

    def spawn(self, *, strong: bool) -> WorkerGroup:
        """Return another group of the same actors: with these handles, or with what a look-up by name gives."""
        handles = self.handles if strong else [ray.get_actor(name, NAMESPACE) for name in self.names]
        return WorkerGroup(self.names, handles)
