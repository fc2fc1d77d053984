"""Uses the GPU in a child process, after or before this process has initialised CUDA, started by fork or by spawn."""

from __future__ import annotations

import multiprocessing
from typing import Any, Final

from harness import child

CHILD_S: Final = 60.0
DEFAULTS: Final = {"start": "fork", "initialised": "true"}


def use_device(answers: Any) -> None:
    """Compute something on the GPU, in the child."""
    try:
        import torch

        value = float(torch.ones(8, device="cuda").sum())
    except Exception as error:  # noqa: BLE001 - what torch raises is the observation
        child.observe_error("child_failed", error)
        answers.put(None)
        return
    child.mark("child_used_device", value=value)
    answers.put(value)


def main() -> None:
    """Initialise or not, start the child, and see what came of it."""
    settings = DEFAULTS | child.params()
    with child.phase("load"):
        import torch

        if settings["initialised"] == "true":
            torch.ones(1, device="cuda")
            torch.cuda.synchronize()
        child.mark("parent", initialised=torch.cuda.is_initialized(), torch=torch.__version__, cuda=torch.version.cuda)
    context: Any = multiprocessing.get_context(settings["start"])
    answers = context.SimpleQueue()
    process = context.Process(target=use_device, args=(answers,))
    with child.phase("child"):
        process.start()
        process.join(CHILD_S)
    child.mark("child_ended", code=process.exitcode, alive=process.is_alive())
    if process.is_alive():
        process.kill()
        process.join()
    child.finish()


if __name__ == "__main__":
    main()
