"""What ``py-spy dump --json`` says of the Python frames, put between the native ones that eu-stack saw right after it.

Both together take less than half of the processor time of ``py-spy dump --native`` and hold the target for less time;
and they show the threads that Python never saw. One frame of the interpreter's loop runs a Python function and those
that it calls without leaving the loop (since CPython 3.11, "inlined Python function calls"); py-spy marks the outermost
of such a run (``is_entry`` up to 3.11, ``is_shim_entry`` since). So runs and loops pair off. Of a thread that went on
between the two dumps their numbers differ: it keeps its Python frames alone, which belong to one moment, and is marked
with a frame that says so. A native stack that eu-stack cannot follow to its end is an error of eu-stack, and no dump.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from harness.stacks import eu_stack, py_spy
from harness.stacks.model import Frame, Process, ThreadStack

TOOL: Final = "py-spy + eu-stack"

_SEAM: Final = re.compile(r"^PID \d+ - process$", re.MULTILINE)
_LOOP: Final = "_PyEval_EvalFrameDefault"
RAN_ON: Final = Frame("[ran on]", native=True)
"""Inside the Python frames of a thread that was not at rest: it differs from one that waits in the same function."""


def is_joined(text: str) -> bool:
    """Whether a text that starts as py-spy's JSON goes on as eu-stack's dump."""
    return _SEAM.search(text) is not None


def python_half(text: str) -> str:
    """Return what py-spy said, without what eu-stack said after it."""
    seam = _SEAM.search(text)
    return (text[: seam.start()] if seam else text).rstrip()


def parse(text: str, process: Process, *, sample: int = 0, partial: bool = False) -> list[ThreadStack]:
    """Return the threads of one process: those of Python first, then those that only the kernel knows."""
    return [stack for stack, _ in _joined(text, process, sample=sample, partial=partial)]


def moved(text: str, process: Process) -> int | None:
    """Return how many threads went on between the dumps; ``None`` if no loop of the interpreter is to be seen at all.

    That is so where the interpreter has no symbols, and then none of its threads can be joined.
    """
    pairs = [pairing for _, pairing in _joined(text, process) if pairing is not None]
    if any(runs for runs, _ in pairs) and not any(loops for _, loops in pairs):
        return None
    return sum(runs != loops for runs, loops in pairs)


def _joined(
    text: str, process: Process, *, sample: int = 0, partial: bool = False
) -> list[tuple[ThreadStack, tuple[int, int] | None]]:
    """Return the threads, those of Python with the numbers of their runs and loops."""
    seam = _SEAM.search(text)
    head, tail = (text[: seam.start()], text[seam.start() :]) if seam else (text, "")
    native = {stack.thread_id: stack for stack in eu_stack.parse(tail, process, sample=sample, partial=partial)}
    joined: list[tuple[ThreadStack, tuple[int, int] | None]] = []
    for stack, runs in py_spy.parse_runs(head, process, sample=sample, partial=partial):
        below = native.pop(stack.thread_id, None)
        loops = sum(frame.function == _LOOP for frame in below.frames) if below is not None else 0
        if below is None and not tail.endswith("\n"):
            frames, torn = stack.frames, True
        elif below is None or loops != len(runs):
            frames, torn = (*stack.frames, RAN_ON), below is not None and below.partial
        else:
            frames, torn = _join(runs, below.frames), below.partial
        whole = msgspec.structs.replace(stack, frames=frames, tool=TOOL, partial=stack.partial or torn)
        joined.append((whole, (len(runs), loops)))
    unseen = bool(joined)
    return joined + [(msgspec.structs.replace(one, tool=TOOL, unseen=unseen), None) for one in native.values()]


def _join(runs: list[tuple[Frame, ...]], native: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """Put each run in the place of its loop, outermost first."""
    frames: list[Frame] = []
    left = iter(runs)
    for frame in native:
        frames += next(left) if frame.function == _LOOP else (frame,)
    return tuple(frames)
