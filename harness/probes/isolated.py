"""Reads a vendor's library in a process of its own, with a time limit.

A library of a GPU driver can block for ever in the kernel, crash, and keep the device open. In a process of its own it
can do all of that without the supervisor: the reading is then `Unavailable`, with what happened as the reason. Here it
is asked once; for one reading after the other see `harness.probes.series`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

import harness
from harness.probes.gpu import GpuReading, Unavailable
from harness.probes.linux import end_with_parent

TIMEOUT_S: Final = 10.0
"""How long a library may take, in seconds: on a machine without persistence mode the first call wakes the GPUs up."""
POLL_S: Final = 0.001
"""How long one `poll` may take, in seconds: with nothing at all, `Popen.communicate` does not even look."""
END_S: Final = 1.0
"""How long its process may take to end after SIGKILL; one that is blocked in the kernel does not."""


SERIES: Final = "series"
"""The argument that makes a probe's module answer again for every line on its stdin."""


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
        try:
            self._child = start_helper(module, env, helpers)
        except OSError as error:
            self._result = Unavailable(probe=probe, reason=f"its helper process could not be started: {error}")

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
        what = f"its helper process ended with {child.returncode} and no answer"
        return decoded(out) or Unavailable(probe=self._probe, reason=with_last_words(what, err))

    def _give_up(self, child: subprocess.Popen[bytes]) -> Unavailable:
        reason = f"the driver's library did not answer within {self._timeout_s:g} s"
        if not end_helper(child):
            reason += f", and pid {child.pid} that asked it does not end on SIGKILL"
        return Unavailable(probe=self._probe, reason=reason)


def start_helper(
    module: str, env: Mapping[str, str] | None, helpers: set[int] | None, *, series: bool = False
) -> subprocess.Popen[bytes]:
    """Start a probe's module as a process that inherits nothing but its pipes.

    Raises:
        OSError: If the system refuses.
    """
    env = dict(os.environ if env is None else env)
    paths = [str(Path(harness.__file__).parents[1]), env.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    child = subprocess.Popen(
        [sys.executable, "-m", module, *([SERIES] if series else [])],
        stdin=subprocess.PIPE if series else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        start_new_session=series,  # one that stays is no concern of a terminal's Ctrl-C
    )
    if helpers is not None:
        helpers.add(child.pid)
    return child


def end_helper(child: subprocess.Popen[bytes]) -> bool:
    """Kill the process and close its pipes; return whether it has ended, which one blocked in the kernel does not."""
    child.kill()
    try:
        child.wait(END_S)
    except subprocess.TimeoutExpired:
        child.returncode = -signal.SIGKILL  # nobody waits for it any more
        return False
    finally:
        close_pipes(child)
    return True


def close_pipes(child: subprocess.Popen[bytes]) -> None:
    """Close our ends; may be done twice."""
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()


def decoded(out: bytes) -> GpuReading | Unavailable | None:
    """Return what a helper answered, or ``None`` if that is no answer."""
    try:
        found = msgspec.json.decode(out, type=_Answer)
    except msgspec.DecodeError:
        return None
    return found.reading or found.unavailable


def with_last_words(what: str, err: bytes) -> str:
    """Return what happened together with the last line that the helper wrote to stderr, if it wrote any."""
    last = err.decode(errors="replace").strip().rpartition("\n")[2][:200]
    return f"{what}{': ' + last if last else ''}"


def answer(readings: Iterator[GpuReading | Unavailable]) -> None:
    """Write the next reading to stdout, or one for every line on stdin; what the library itself prints goes to stderr.

    For the ``__main__`` of a probe's module. An exception ends the process with its text as the last line of stderr. A
    series ends with its stdin, and with whoever started it also while the library blocks.
    """
    series = sys.argv[1:] == [SERIES]
    if series:
        end_with_parent(signal.SIGKILL, os.getppid())
    out = os.dup(1)
    os.dup2(2, 1)
    asked = sys.stdin.buffer if series else [b""]
    with os.fdopen(out, "wb") as stream:
        for _, result in zip(asked, readings, strict=False):
            found = _Answer(reading=result) if isinstance(result, GpuReading) else _Answer(unavailable=result)
            stream.write(msgspec.json.encode(found) + b"\n")
            stream.flush()
