"""What a user's own script with vLLM looks like: an engine, and then work. Run by other programs, never by a cell."""

from __future__ import annotations

import signal
import sys
import time

from harness import child
from scenarios.programs.engine_args import engine_settings, prepare_environment


def main() -> None:
    """Bring an engine up and stay."""
    if child.params().get("handler") == "exit":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    prepare_environment()
    from vllm import LLM, SamplingParams

    llm = LLM(**engine_settings())
    llm.generate(["the crash cart"], SamplingParams(max_tokens=2))
    child.mark("script_ready")
    (child.scratch() / "ready").touch()
    time.sleep(600)


if __name__ == "__main__":
    main()
