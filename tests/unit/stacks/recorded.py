"""The recorded dumps (fixtures/README.md) as stacks."""

from __future__ import annotations

from pathlib import Path

from harness.events import ProcessKey
from harness.probes.threads import SYSCALLS, Wait, WaitKind
from harness.stacks import Frame, Process, ThreadStack, kernel_stacks, parse

FIXTURES = Path(__file__).parent / "fixtures"


def process(pid: int, role: str = "trainer", rank: int | None = None) -> Process:
    return Process(ProcessKey(pid, 1), f"{role}.py", role, rank)


def raw(name: str) -> str:
    return (FIXTURES / name).read_text()


def stacks(name: str, whose: Process, sample: int = 0) -> list[ThreadStack]:
    return parse(raw(name), whose, sample=sample)


def kernel(name: str, whose: Process) -> list[ThreadStack]:
    rows = [line.split("|") for line in raw(name).splitlines()]
    return kernel_stacks(whose, [wait(int(tid), *rest) for tid, *rest in rows])


def wait(tid: int, comm: str, state: str, wchan: str, call: str) -> Wait:
    """What `harness.probes.threads` makes of such a row, but for the descriptors, which need the live process."""
    number = call.partition(" ")[0]
    name = SYSCALLS[int(number)] if number.isdecimal() else "running"
    kind = {"R": WaitKind.RUNNING, "D": WaitKind.UNINTERRUPTIBLE}.get(state, WaitKind.OTHER)
    return Wait(tid=tid, name=comm, kind=kind, call=name, wchan=wchan)


def names(stack: ThreadStack) -> list[str]:
    return [frame.name for frame in stack.frames]


def by_id(found: list[ThreadStack], thread: int) -> ThreadStack:
    return next(stack for stack in found if stack.thread_id == thread)


def python(*functions: str, file: str = "train.py") -> tuple[Frame, ...]:
    return tuple(Frame(function, file, 1) for function in functions)
