"""Puts a real vLLM engine to sleep and says what its processes still hold on the GPU, beside a bare process there."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any, Final

import psutil

from harness import child
from scenarios.programs import gpu_memory
from scenarios.programs.engine_args import engine_settings, prepare_environment
from scenarios.programs.graph_capture_vllm import GRAPHS, NAMES
from scenarios.programs.tiny_model import tiny_model

MODULE: Final = "scenarios.programs.sleep_residue"
BUFFER_MIB: Final = 2048
BARE_S: Final = 60.0
TOKENS: Final = 16
DEFAULTS: Final = {"level": "1", "keeps": "nothing", "graphs": "off"}


def bare() -> None:
    """Have a CUDA context and nothing else until told to end."""
    import torch

    torch.ones(1, device="cuda")
    torch.cuda.synchronize()
    (child.scratch() / "bare").touch()
    sys.stdin.read()


def bare_mib() -> int | None:
    """Return what such a process holds; it has ended when this returns, since engines measure what is free."""
    process = subprocess.Popen([sys.executable, "-m", MODULE, "bare"], stdin=subprocess.PIPE)
    until = time.monotonic() + BARE_S
    while not (child.scratch() / "bare").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    memory = gpu_memory.held() or {}
    process.communicate()
    gpu_memory.wait_released([process.pid], 10.0)
    return memory.get(process.pid)


def family_mib() -> int | None:
    """Return what this process and its descendants hold together; ``None`` where none of them is listed."""
    pids = {process.pid for process in [psutil.Process(), *psutil.Process().children(recursive=True)]}
    held = [mib for pid, mib in (gpu_memory.held() or {}).items() if pid in pids]
    return sum(held) if held else None


def start_engine(graphs: str) -> Any:
    """Return an engine that can sleep, with real weights: what it answers depends on them."""
    import vllm

    return vllm.LLM(
        **engine_settings(
            model=tiny_model("random"),
            load_format="auto",
            dtype="bfloat16",
            enable_sleep_mode=True,
            enforce_eager=graphs == "off",
            compilation_config=GRAPHS[graphs],
            worker_extension_cls="scenarios.programs.sleep_worker.SleepExtension",
        )
    )


def answer(engine: Any) -> list[int]:
    """Return the tokens of one answer."""
    import vllm

    sampling = vllm.SamplingParams(max_tokens=TOKENS, temperature=0.0, ignore_eos=True)
    (output,) = engine.generate(["the crash cart rolls"], sampling, use_tqdm=False)
    return [int(token) for token in output.outputs[0].token_ids]


def sleep_and_wake(engine: Any, settings: dict[str, str], context_mib: int | None) -> None:
    """Let it answer, sleep, and wake; after level 2 it has no weights, and is not asked."""
    level = int(settings["level"])
    with child.phase("generate"):
        before = answer(engine)
    if settings["keeps"] != "nothing":
        engine.collective_rpc("keep_buffer", args=(BUFFER_MIB,))
    if settings["keeps"] == "released":
        engine.collective_rpc("release_buffer")
    awake = family_mib()
    with child.phase("sleep"):
        engine.sleep(level=level)
    child.mark("memory", bare_mib=context_mib, awake_mib=awake, asleep_mib=family_mib())
    with child.phase("wake_up"):
        engine.wake_up()
        same = answer(engine) == before if level == 1 else None
    child.mark("woken", mib=family_mib(), same_answer=same)


def main() -> None:
    """Run the cell, or be the bare process."""
    if len(sys.argv) > 1:
        bare()
        return
    prepare_environment()
    settings = DEFAULTS | child.params()
    with child.phase("bare"):
        context_mib = bare_mib()
    try:
        with child.phase("engine_start"):
            import vllm

            engine = start_engine(settings["graphs"])
            (state,) = engine.collective_rpc("graph_state")
        child.mark("engine", vllm=vllm.__version__, graphs=NAMES.get(state["mode"], state["mode"]))
        sleep_and_wake(engine, settings, context_mib)
        with child.phase("stop"):
            engine.llm_engine.engine_core.shutdown()
    except Exception as error:  # noqa: BLE001 - whatever the engine fails at is an observation
        child.observe_error("engine_failed", error)
    child.finish()


if __name__ == "__main__":
    main()
