"""From the record of a test to what is said of it: how its process ended, what hung, what died, what was left. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.attempt import Attempt, Leftover, Process
from harness.pytest_plugin.marks import Guard, Policy
from harness.supervise.merged import TEXT

STACK_LINES: Final = 60
"""How many lines of the merged stacks a report shows; the rest is in the file."""
NAME: Final = 80
ENTRY: Final = re.compile(r"[\s-]*run_test \(child\.py:")
OUTER: Final = re.compile(
    r"\s*(pytest_\w+|runtestprotocol|call_and_report|CallInfo\.|HookCaller|PluginManager|_multicall|Function\.runtest)"
)
FOREIGN: Final = re.compile(
    r'File "[^"]*(/_pytest/|/pluggy/|/pytest/__main__|/xdist/|/execnet/|<frozen runpy|'
    r"/harness/(pytest_plugin|supervise)/)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What the supervisor found, in the words of the report."""

    failure: str = ""
    """Why the test has not passed whatever it said: a death, a hang, the deadline, a silent end."""
    left: tuple[str, ...] = ()
    """What it has left that its policy forbids."""
    noted: tuple[str, ...] = ()
    """What else it has left."""
    deaths: tuple[str, ...] = ()
    """Other processes of the test that died of a signal which crashcart did not send."""
    notes: tuple[str, ...] = ()

    @property
    def signature(self) -> str:
        """One line for the row of results."""
        return "; ".join(filter(None, (self.failure, *self.left)))


def conclude(attempt: Attempt, guard: Guard, *, ended: bool) -> Conclusion:
    """Say what the record shows of a test whose process said its word (``ended``) or did not."""
    failure = _failure(attempt, guard, ended=ended)
    found = [*_orphans(attempt, guard), *_leftovers(attempt, guard)]
    return Conclusion(
        failure=failure,
        left=tuple(text for policy, text in found if policy is Policy.FAIL),
        noted=tuple(text for policy, text in found if policy is Policy.REPORT),
        deaths=tuple(_death(process) for process in attempt.processes[1:] if _died(process)),
        notes=attempt.notes,
    )


def _failure(attempt: Attempt, guard: Guard, *, ended: bool) -> str:
    root = attempt.processes[0] if attempt.processes else None
    if attempt.end == "deadline":
        return f"timeout: still running after {guard.timeout:g} s" if guard.timeout else "timeout"
    if attempt.end == "hang":
        doubt = next((one for one in attempt.suspicions if one.suspicion not in {"survivors", "deadline"}), None)
        kind = doubt.suspicion.replace("_", " ") if doubt is not None else "cause unknown"
        return f"hang: {kind}{' (proved)' if doubt is not None and doubt.proved else ''}"
    if ended and attempt.nonce:
        return ""
    status = root.status if root is not None else None
    if status is None or not status.known:
        return "its process has gone, nobody knows how"
    if status.signal is not None:
        return f"its process died of {status.signal}"
    return f"its process ended with exit code {status.exit_code} before the test was over"


def _orphans(attempt: Attempt, guard: Guard) -> list[tuple[Policy, str]]:
    outlived = {key for doubt in attempt.suspicions if doubt.suspicion == "survivors" for key in doubt.keys}
    return [
        (guard.orphans, f"left behind: process {one.key.pid} {one.name[:NAME]} outlived the test{_end_of(one)}")
        for one in attempt.processes
        if one.key in outlived
    ]


def _end_of(process: Process) -> str:
    return f" (ended by {process.ended_by.removeprefix('stop:')})" if process.ended_by else ""


def _leftovers(attempt: Attempt, guard: Guard) -> list[tuple[Policy, str]]:
    policies = {"shm": guard.shm, "gpu_memory": guard.gpu_memory, "process": guard.orphans}
    return [(policies[left.what], _leftover(left)) for left in attempt.leftovers if left.what in policies]


def _leftover(left: Leftover) -> str:
    if left.what == "shm":
        return f"left behind: /dev/shm/{left.name}, {left.bytes} bytes{', removed' if left.reclaimed else ''}"
    if left.what == "gpu_memory":
        return f"left behind on the GPU: {left.name}"
    return f"left behind: process {left.key.pid if left.key else '?'} {left.name[:NAME]} does not end on SIGKILL"


def _died(process: Process) -> bool:
    return process.status is not None and process.status.signal is not None and not process.ended_by


def _death(process: Process) -> str:
    how = process.status.describe() if process.status else ""
    return f"process {process.key.pid} {process.name[:NAME]} died of {how}"


def reasons(attempt: Attempt) -> list[str]:
    """Return why a hang was suspected."""
    return [reason for one in attempt.suspicions if one.suspicion != "survivors" for reason in one.reasons]


def merged_stacks(folder: Path) -> list[str]:
    """Return the beginning of the merged stacks without pytest's own frames, and where the rest is."""
    path = folder / "stacks" / TEXT
    try:
        lines = without_pytest(path.read_text(errors="replace").splitlines())
    except OSError:
        return []
    return [*lines[:STACK_LINES], f"… whole in {path}"]


def without_pytest(lines: Sequence[str]) -> list[str]:
    """Leave out the frames of pytest and of the supervisor's fork between the interpreter's start and the test."""
    entry = next((number for number, line in enumerate(lines) if ENTRY.match(line)), None)
    if entry is None:
        return list(lines)
    first = next((number for number, line in enumerate(lines) if line.startswith("- ")), entry)
    last = entry
    while last + 1 < len(lines) and OUTER.match(lines[last + 1]):
        last += 1
    return [*lines[:first], "- … pytest …", *lines[last + 1 :]]


def last_words(path: Path) -> list[str]:
    """Return what faulthandler wrote when the process died: Python's stacks at that moment, without pytest's frames."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if not FOREIGN.search(line)][:STACK_LINES]


def paragraphs(parts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return headed paragraphs; one without lines is left out."""
    return "\n\n".join("\n".join([f"{head}:", *(f"  {line}" for line in lines)]) for head, lines in parts if lines)
