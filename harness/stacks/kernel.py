"""What /proc alone shows of a thread, as a stack of one frame: no tool, no stop, any program."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from harness.probes.threads import Wait, WaitKind
from harness.stacks.model import Frame, Process, ThreadStack

TOOL: Final = "proc"


def kernel_stacks(process: Process, waits: Iterable[Wait], *, sample: int = 0) -> list[ThreadStack]:
    """Return one frame a thread: the call that it is blocked in, with the kernel's wait channel as its place."""
    return [
        ThreadStack(process, (_frame(wait),), wait.tid, wait.name, wait.kind, sample=sample, tool=TOOL)
        for wait in waits
    ]


def _frame(wait: Wait) -> Frame:
    channel = "" if wait.wchan in {"0", "[unknown]"} else wait.wchan
    uninterruptible = " (uninterruptible)" if wait.kind is WaitKind.UNINTERRUPTIBLE else ""
    what = wait.call or channel or "unknown"
    return Frame(f"[kernel] {what}{uninterruptible}", channel if channel != what else "", native=True)
