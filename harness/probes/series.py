"""Readings of a vendor's library one after the other, by one process that stays.

To open a driver's library and to ask every fact of every GPU takes the driver's locks, which a program that uses the
GPUs wants, too. A process that stays opens the library once, and asks again only what changes.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Final

from harness.probes.gpu import GpuReading, Unavailable
from harness.probes.isolated import (
    END_S,
    TIMEOUT_S,
    close_pipes,
    decoded,
    end_helper,
    start_helper,
    with_last_words,
)

MOST_FAILURES: Final = 3
"""After so many readings in a row that came to nothing, no process is started any more."""
CHUNK: Final = 1 << 16
"""How much one `poll` takes from a pipe, which is what a pipe holds."""


class ReadingSeries:
    """One reading at a time: `ask` for it, then `poll`; neither waits.

    A process that does not answer in time, or not with a reading, is killed, and the next `ask` starts another. If one
    does not even end on SIGKILL, there is no other, so that a stuck driver does not collect them. ``helpers`` is told
    the pids, so that a supervisor does not take the processes for some of its attempt.
    """

    def __init__(
        self,
        module: str,
        probe: str,
        timeout_s: float = TIMEOUT_S,
        env: Mapping[str, str] | None = None,
        helpers: set[int] | None = None,
    ) -> None:
        self.over = ""
        """Why nobody is asked any more; empty while somebody is."""
        self._module = module
        self._probe = probe
        self._timeout_s = timeout_s
        self._env = env
        self._helpers = helpers
        self._child: subprocess.Popen[bytes] | None = None
        self._killed: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._deadline = self._ends_by = 0.0
        self._out = self._err = b""
        self._result: GpuReading | Unavailable | None = None

    def ask(self) -> None:
        """Begin a reading, with a new process if there is none."""
        self._deadline = time.monotonic() + self._timeout_s
        self._result = None
        reason = self.over or self._ending()
        if reason:
            self._result = Unavailable(probe=self._probe, reason=reason)
            return
        if self._child is None:
            self._start()
        if self._child is not None and self._child.stdin is not None:
            with suppress(BrokenPipeError):  # it has ended, as `poll` will see
                os.write(self._child.stdin.fileno(), b"\n")

    def poll(self) -> GpuReading | Unavailable | None:
        """Return the outcome of what was asked last, or ``None`` while there is none."""
        if self._result is None and self._child is not None:
            self._result = self._collect(self._child)
        return self._result

    def close(self) -> tuple[int, ...]:
        """End the process, so that it has no device open any more; return the pids that do not end, as they cannot."""
        children = [child for child in (self._child, self._killed) if child is not None]
        self._child = self._killed = None
        return tuple(child.pid for child in children if not end_helper(child))

    def _ending(self) -> str:
        """Return why no process can be started: the one that was killed is still there."""
        if self._killed is None or self._killed.poll() is not None:
            return ""
        if time.monotonic() < self._ends_by:
            return f"pid {self._killed.pid} that asked the driver's library before has not ended yet"
        self.over = f"pid {self._killed.pid} that asked the driver's library does not end on SIGKILL"
        return self.over

    def _start(self) -> None:
        self._out = self._err = b""
        try:
            self._child = child = start_helper(self._module, self._env, self._helpers, series=True)
        except OSError as error:
            self._result = self._failed(f"its helper process could not be started: {error}")
            return
        for stream in filter(None, (child.stdin, child.stdout, child.stderr)):
            os.set_blocking(stream.fileno(), False)

    def _collect(self, child: subprocess.Popen[bytes]) -> GpuReading | Unavailable | None:
        ended = child.poll() is not None  # asked first: what it wrote before its end is in the pipes then
        self._out += _waiting(child.stdout)
        self._err = (self._err + _waiting(child.stderr))[-CHUNK:]
        line, found, self._out = self._out.rpartition(b"\n")
        if found:
            answer = decoded(line)
            if isinstance(answer, GpuReading):
                self._failures = 0
                return answer
            wrong = with_last_words("its helper process wrote what is no answer", self._err)
            return self._failed(answer.reason if answer is not None else wrong)
        if ended:
            what = f"its helper process ended with {child.returncode} and no answer"
            return self._failed(with_last_words(what, self._err))
        if time.monotonic() >= self._deadline:
            return self._failed(f"the driver's library did not answer within {self._timeout_s:g} s")
        return None

    def _failed(self, reason: str) -> Unavailable:
        """Let the process go, without waiting for its end: the next `ask` looks whether it has come."""
        if self._child is not None:
            self._child.kill()
            close_pipes(self._child)
            self._child, self._killed = None, self._child
            self._ends_by = time.monotonic() + END_S
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            self.over = reason
        return Unavailable(probe=self._probe, reason=reason)


def _waiting(stream: IO[bytes] | None) -> bytes:
    """Return what a pipe holds right now."""
    try:
        return os.read(stream.fileno(), CHUNK) if stream is not None else b""
    except BlockingIOError:
        return b""
