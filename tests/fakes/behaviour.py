"""How the stand-ins of GPU libraries behave: by ``FAKE_GPU`` in the environment, as JSON.

``gpus`` (a list of uuid, name, bus, total, used and processes as ``[kind, pid, bytes or null]``), ``init_error``,
``hang_s``, ``crash``, ``noise`` (bytes on stdout), ``lost`` (indices); ``state``, a file whose JSON is laid over all
this as it is at each call, so that a test can change what a driver does; ``calls``, a file that gets the name of each
function that is called.
"""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path
from typing import Any

GIVEN: dict[str, Any] = json.loads(os.environ.get("FAKE_GPU", "{}"))


def now() -> dict[str, Any]:
    """Return the behaviour at this moment."""
    state = Path(GIVEN.get("state", "/nonexistent"))
    return GIVEN | (json.loads(state.read_text()) if state.exists() else {})


def trouble() -> None:
    """Print, crash or block, as a call does that goes to the driver."""
    behaviour = now()
    os.write(1, b"a library that prints to stdout\n" * behaviour.get("noise", 0))
    if behaviour.get("crash"):
        os.kill(os.getpid(), 11)
    time.sleep(behaviour.get("hang_s", 0))


def record_calls(library: dict[str, Any], prefix: str) -> None:
    """Let the functions of a stand-in tell that they are called."""
    if "calls" not in GIVEN:
        return
    for name, function in list(library.items()):
        if name.startswith(prefix) and callable(function):
            library[name] = _told(function)


def _told(function: Any) -> Any:  # noqa: ANN401 - any function
    @functools.wraps(function)
    def tell(*args: object, **options: object) -> object:
        with Path(GIVEN["calls"]).open("a") as stream:
            stream.write(f"{function.__name__}\n")
        return function(*args, **options)

    return tell
