"""Reads a vendor's library in a process of its own, with a time limit.

A library of a GPU driver can block for ever in the kernel, crash, and keep the device open. In a process of its own it
can do all of that without the supervisor: the reading is then `Unavailable`, with what happened as the reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

import harness
from harness.probes.gpu import GpuReading, Unavailable

TIMEOUT_S: Final = 10.0
"""How long a library may take, in seconds: on a machine without persistence mode the first call wakes the GPUs up."""
POLL_S: Final = 0.001
"""How long one `poll` may take, in seconds: with nothing at all, `Popen.communicate` does not even look."""
END_S: Final = 1.0
"""How long its process may take to end after SIGKILL; one that is blocked in the kernel does not."""


class _Answer(msgspec.Struct):
    reading: GpuReading | None = None
    unavailable: Unavailable | None = None


class IsolatedReading:
    """One reading under way; `poll` takes a millisecond at most.

    ``helpers`` is told the pid, so that a supervisor does not take the process for one of its attempt.
    """

    def __init__(
        self,
        module: str,
        probe: str,
        timeout_s: float = TIMEOUT_S,
        env: Mapping[str, str] | None = None,
        helpers: set[int] | None = None,
    ) -> None:
        self._probe = probe
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._result: GpuReading | Unavailable | None = None
        self._child: subprocess.Popen[bytes] | None = None
        env = dict(os.environ if env is None else env)
        paths = [str(Path(harness.__file__).parents[1]), env.get("PYTHONPATH", "")]
        env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=env,
            )
        except OSError as error:
            self._result = Unavailable(probe=probe, reason=f"its helper process could not be started: {error}")
            return
        if helpers is not None:
            helpers.add(self._child.pid)

    def poll(self) -> GpuReading | Unavailable | None:
        """Return the outcome, or ``None`` while there is none."""
        if self._result is None and self._child is not None:
            self._result = self._collect(self._child, POLL_S)
        return self._result

    def wait(self) -> GpuReading | Unavailable:
        """Return the outcome, at the latest shortly after the time limit."""
        if self._result is None and self._child is not None:
            self._result = self._collect(self._child, max(0.0, self._deadline - time.monotonic()))
        return self._result or Unavailable(probe=self._probe, reason="its helper process was never started")

    def _collect(self, child: subprocess.Popen[bytes], timeout_s: float) -> GpuReading | Unavailable | None:
        try:
            out, err = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return self._give_up(child) if time.monotonic() >= self._deadline else None
        try:
            answer = msgspec.json.decode(out, type=_Answer)
        except msgspec.DecodeError:
            last = err.decode(errors="replace").strip().rpartition("\n")[2][:200]
            reason = f"its helper process ended with {child.returncode} and no answer{': ' + last if last else ''}"
            return Unavailable(probe=self._probe, reason=reason)
        return answer.reading or answer.unavailable

    def _give_up(self, child: subprocess.Popen[bytes]) -> Unavailable:
        child.kill()
        reason = f"the driver's library did not answer within {self._timeout_s:g} s"
        try:
            child.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            for stream in (child.stdout, child.stderr):
                if stream is not None:
                    stream.close()
            child.returncode = -9  # nobody waits for it any more; it is blocked in the kernel
            reason += f", and pid {child.pid} that asked it does not end on SIGKILL"
        return Unavailable(probe=self._probe, reason=reason)


def answer(read: Callable[[], GpuReading | Unavailable]) -> None:
    """Write what ``read`` returns to stdout; what the library itself prints goes to stderr.

    For the ``__main__`` of a probe's module. An exception ends the process with its text as the last line of stderr.
    """
    out = os.dup(1)
    os.dup2(2, 1)
    result = read()
    found = _Answer(reading=result) if isinstance(result, GpuReading) else _Answer(unavailable=result)
    with os.fdopen(out, "wb") as stream:
        stream.write(msgspec.json.encode(found))
