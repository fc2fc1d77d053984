"""Starts a function as the program of an attempt: a fork in a session of its own, with nothing of the supervisor's."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import Final

from harness.probes.linux import end_with_parent

FAILED: Final = 70
"""Exit code of a program whose function raised."""


def open_descriptors() -> frozenset[int]:
    """Return the descriptors of this process, without the one that it takes to list them."""
    return frozenset(int(name) for name in os.listdir("/proc/self/fd")) - {_probe()}


def _probe() -> int:
    """Return the number that the next descriptor gets, which is the one that a listing shows of itself."""
    descriptor = os.open("/proc/self", os.O_PATH | os.O_CLOEXEC)
    os.close(descriptor)
    return descriptor


def start_function(
    function: Callable[[], int], env: Mapping[str, str], keep: frozenset[int], before: Callable[[], object]
) -> int:
    """Fork, call the function in the child, and end the child with the code that it returns.

    The child ends without the interpreter's and the C library's exit handlers, which are the parent's; it dies with
    this process (SIGKILL). Whatever the function prints must be flushed by it.

    Args:
        function: The program.
        env: What is added to its environment, and so to that of its children.
        keep: The descriptors that it keeps; all later ones are the supervisor's own and are closed.
        before: Called in the child first, to give signal handlers back.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns where there are threads
        pid = os.fork()
    if pid:
        return pid
    code = FAILED
    try:
        os.setsid()
        end_with_parent(signal.SIGKILL, parent)
        before()
        for descriptor in open_descriptors() - keep:
            os.close(descriptor)
        os.environ.update(env)
        code = function()
    except BaseException:  # noqa: BLE001 - nothing may run on into the code of the parent
        traceback.print_exc()
    finally:
        os._exit(code)
