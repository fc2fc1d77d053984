"""A vLLM executor whose workers are Ray actors that somebody else started: it finds them by their names."""

# ruff: noqa: FBT001, FBT002 - the signatures are those of vLLM's base class

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from vllm.v1.executor.abstract import Executor

from scenarios.workloads.rollout.workers import NAMESPACE


class NamedActorExecutor(Executor):  # type: ignore[misc]
    """Runs in EngineCore; ``instance_id`` of the configuration is the name of its worker.

    The handle is the one of ``ray.get_actor``: it does not keep the worker alive.
    """

    def _init_executor(self) -> None:
        if not ray.is_initialized():
            ray.init(namespace=NAMESPACE, log_to_driver=False)  # RAY_ADDRESS is that of the server's cluster
        self.worker = ray.get_actor(self.vllm_config.instance_id, NAMESPACE)
        arguments = {
            "vllm_config": self.vllm_config,
            "local_rank": 0,
            "rank": 0,
            "distributed_init_method": (Path(tempfile.gettempdir()) / f"rollout-{uuid4().hex}").as_uri(),
            "is_driver_worker": True,
        }
        self.collective_rpc("init_worker", args=([arguments],))
        self.collective_rpc("init_device")
        self.collective_rpc("load_model")

    def collective_rpc(
        self,
        method: str | Callable[..., Any],
        timeout: float | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        non_block: bool = False,
    ) -> Any:
        """Call the worker and wait; what is asked for without waiting is a future that is done."""
        if non_block:
            future: Future[Any] = Future()
            try:
                future.set_result(self.collective_rpc(method, timeout, args, kwargs))
            except ray.exceptions.RayError as error:
                future.set_exception(error)  # for the one who asks for the result
            return future
        return [ray.get(self.worker.execute_method.remote(method, *args, **(kwargs or {})), timeout=timeout)]

    def execute_model(self, scheduler_output: Any, non_block: bool = False) -> Any:
        """Run one step; its only worker's answer."""
        return self._first("execute_model", scheduler_output, non_block)

    def sample_tokens(self, grammar_output: Any, non_block: bool = False) -> Any:
        """Sample after a step; its only worker's answer."""
        return self._first("sample_tokens", grammar_output, non_block)

    def _first(self, method: str, argument: Any, non_block: bool) -> Any:
        if not non_block:
            return self.collective_rpc(method, args=(argument,))[0]
        future: Future[Any] = Future()
        try:
            future.set_result(self.collective_rpc(method, args=(argument,))[0])
        except ray.exceptions.RayError as error:
            future.set_exception(error)
        return future

    def check_health(self) -> None:
        """Ask the worker for a sign of life."""
        ray.get(self.worker.ping.remote(), timeout=10)

    def shutdown(self) -> None:
        """Leave the worker to those who started it."""
