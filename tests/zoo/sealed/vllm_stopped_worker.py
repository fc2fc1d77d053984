"""vLLM's worker process is stopped in the middle of a request, and the engine waits: bites after a debugger or SIGSTOP.

References: vllm#55510, vllm#34643 on engines that do not notice what happened to their processes.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from typing import Final

import psutil

from harness import child

WORKER: Final = "VLLM::Worker"


def workers() -> list[psutil.Process]:
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if any(WORKER in part for part in process.cmdline())
    ]


def stop_worker(worker: psutil.Process) -> None:
    time.sleep(1)
    worker.send_signal(signal.SIGSTOP)


def main() -> None:
    from scenarios.programs.engine_args import engine_settings, prepare_environment

    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("CRASHCART_CACHE", folder)
        prepare_environment()
        from vllm import LLM, SamplingParams

        engine = LLM(**engine_settings(distributed_executor_backend="mp"))
        (worker,) = workers()
        print(f"suspect pid {worker.pid}", flush=True)
        threading.Thread(target=stop_worker, args=(worker,)).start()
        with child.phase("generate"):
            engine.generate(["the crash cart"] * 4, SamplingParams(max_tokens=1900, ignore_eos=True))
        print("passed", flush=True)


if __name__ == "__main__":
    main()
