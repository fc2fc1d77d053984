"""Starts and ends engines one after another, as a job that scales down and up; each wants nearly half of the GPU.

What outlives an ended engine keeps its memory, until the next one finds too little. The program removes nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from harness import child
from scenarios.programs import gpu_memory
from scenarios.programs.engine_args import engine_settings, prepare_environment

MODULE: Final = "scenarios.programs.gpu_orphans"
CYCLES: Final = 3
SHARE: Final = 0.45
"""Of a GPU's memory, per engine: two fit, a third one beside them does not."""
START_S: Final = 150.0
SETTLE_S: Final = 10.0
"""How long the memory of an ended engine may take to come back; 2.5 to 5 s were seen."""
STEP_S: Final = 0.1
WORDS: Final = ("Free memory on device", "out of memory", "No available memory for the cache blocks")
"""What vLLM says at start-up where memory is short, and CUDA."""
DEFAULTS: Final = {"end": "KILL", "cleanup": "none"}


def engine_said() -> list[str]:
    """Return which words about memory the engine has said: its exception stays in its process, and in its output."""
    texts = [path.read_text(errors="replace") for name in ("stdout", "stderr") if (path := Path(name)).exists()]
    return [word for word in WORDS if any(word in text for text in texts)]


def host(number: str) -> None:
    """Hold one engine until told to end."""
    prepare_environment()
    ready, leave = (child.scratch() / f"{name}.{number}" for name in ("ready", "leave"))
    try:
        import vllm

        engine = vllm.LLM(**engine_settings(dtype="bfloat16", gpu_memory_utilization=SHARE))
        sampling = vllm.SamplingParams(max_tokens=8, ignore_eos=True)
        engine.generate(["the crash cart"], sampling, use_tqdm=False)
    except Exception as error:  # noqa: BLE001 - an engine that does not come up is the observation
        child.observe_error("engine_failed", error)
        said: list[child.Json] = [*engine_said()]
        child.mark("engine_said", words=said)
        sys.exit(1)
    child.mark("engine_up", cycle=int(number), vllm=vllm.__version__)
    ready.touch()
    while not leave.exists():
        time.sleep(STEP_S)
    engine.llm_engine.engine_core.shutdown()


def wait_up(process: subprocess.Popen[bytes], ready: Path) -> bool:
    """Return whether the engine came up; its process has ended otherwise."""
    until = time.monotonic() + START_S
    while not ready.exists() and process.poll() is None:
        if time.monotonic() > until:
            msg = f"no engine within {START_S:g} s"
            raise TimeoutError(msg)
        time.sleep(STEP_S)
    return process.poll() is None


def end(process: subprocess.Popen[bytes], settings: dict[str, str], leave: Path) -> None:
    """End the host as the cell says; with ``cleanup=group`` its whole process group, which it leads."""
    if settings["end"] == "exit":
        leave.touch()
    elif settings["cleanup"] == "group":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def main() -> None:
    """Run the cycles, or be the host of one."""
    if len(sys.argv) > 1:
        host(sys.argv[1])
        return
    settings = DEFAULTS | child.params()
    before = gpu_memory.held() or {}
    for number in range(1, CYCLES + 1):
        ready, leave = (child.scratch() / f"{name}.{number}" for name in ("ready", "leave"))
        process = subprocess.Popen([sys.executable, "-m", MODULE, str(number)], start_new_session=True)
        up = wait_up(process, ready)
        if up:
            end(process, settings, leave)
            time.sleep(SETTLE_S)
        held = {str(pid): mib for pid, mib in (gpu_memory.held() or {}).items() if pid not in before}
        child.mark("cycle", number=number, up=up, held_mib=sum(held.values()), holders=list(held))
        if not up:
            break
    child.finish()


if __name__ == "__main__":
    main()
