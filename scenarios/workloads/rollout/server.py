"""An AsyncLLM behind vLLM's own OpenAI-compatible routes, in a Ray actor."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Any, Final

import ray

from scenarios.programs.engine_args import engine_settings

EXECUTOR: Final = "scenarios.workloads.rollout.executor.NamedActorExecutor"
MODEL: Final = "tiny"


class RolloutServer:
    """One server. An actor with coroutine methods: everything runs on the actor's own event loop."""

    def __init__(self, worker: str, environment: Mapping[str, str], settings: Mapping[str, Any]) -> None:
        os.environ.update(environment)
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        self.worker = worker
        self.settings = settings
        self.engine: Any = None

    async def start(self) -> str:
        """Bring the engine and the routes up and return their URL."""
        import uvicorn
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.utils.argparse_utils import FlexibleArgumentParser
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            from vllm.entrypoints.launchers.api_server.app_state import init_app_state
            from vllm.entrypoints.launchers.app import build_app
            from vllm.entrypoints.launchers.cli_args import make_arg_parser
        except ImportError:  # vLLM 0.26
            from vllm.entrypoints.openai.api_server import build_app, init_app_state
            from vllm.entrypoints.openai.cli_args import make_arg_parser
        arguments = engine_settings(distributed_executor_backend=EXECUTOR, **self.settings)
        config = AsyncEngineArgs(**arguments).create_engine_config()
        config.instance_id = self.worker
        self.engine = AsyncLLM.from_vllm_config(config)
        said = ["--model", arguments["model"], "--served-model-name", MODEL, "--enable-prompt-tokens-details"]
        namespace = make_arg_parser(FlexibleArgumentParser()).parse_args(said)
        tasks = await self.engine.get_supported_tasks()
        app = build_app(namespace, tasks, self.engine.model_config)
        await init_app_state(self.engine, app.state, namespace, tasks)
        listener = socket.create_server(("127.0.0.1", 0))
        self._http = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        app.state.server = self._http  # vLLM's handler of a dead engine ends it
        self._serving = asyncio.create_task(self._http._serve([listener]))  # noqa: SLF001 - without signal handlers
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def facts(self) -> dict[str, Any]:
        """Return what is really in use."""
        parallel, model = self.engine.vllm_config.parallel_config, self.engine.vllm_config.model_config
        return {
            "pid": os.getpid(),
            "executor": str(parallel.distributed_executor_backend),
            "dtype": str(model.dtype).removeprefix("torch."),
            "hidden": str(model.get_hidden_size()),
        }

    async def sleep(self) -> None:
        """Take no more work and give the memory of the weights and the cache back, where the device can do that."""
        await self.engine.sleep(level=1)

    async def wake(self) -> None:
        """Take work again."""
        await self.engine.wake_up()

    async def stop(self) -> None:
        """Stop the routes, then the engine."""
        self._http.should_exit = True
        await self._serving
        self.engine.shutdown()
