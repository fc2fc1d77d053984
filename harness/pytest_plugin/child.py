"""What happens in the forked child: the whole protocol of one test, told line by line as it goes.

Which process tears a fixture down? The one that has set it up. What the pytest process had set up before is inherited
as a copy and left alone here; everything else is set up here, for this test alone, and torn down here at its end.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Generator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol
from _pytest.warnings import catch_warnings_for_item

from harness import child
from harness.pytest_plugin.marks import Guard

TOLD: Final = "told.jsonl"
"""The file of reports in the folder of an attempt."""
FATAL: Final = "faulthandler.txt"


class Teller:
    """Writes what the child has to say, each line with the nonce and the pid, so that no other process can say it."""

    def __init__(self, config: pytest.Config, folder: Path, nonce: str) -> None:
        self._config = config
        self._nonce = nonce
        self._pid = os.getpid()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(folder / TOLD, flags, 0o600)

    def tell(self, kind: str, what: Any) -> None:  # noqa: ANN401 - anything that JSON can hold
        """Append a line; a process that the test has forked has no say."""
        if os.getpid() == self._pid:
            line = {"nonce": self._nonce, "pid": self._pid, kind: what}
            data = json.dumps(line, default=str).encode() + b"\n"
            while data:
                data = data[os.write(self._descriptor, data) :]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Tell each report when it is made, so that a crash in a later phase cannot take it along."""
        report = yield
        self.tell("report", item.config.hook.pytest_report_to_serializable(config=item.config, report=report))
        return report

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: tuple[str, int, str] | None
    ) -> None:
        """Tell a warning; it is shown by the process that has a terminal."""
        category = warning_message.category
        said = {
            "text": str(warning_message.message),
            "category": [category.__module__, category.__qualname__],
            "filename": warning_message.filename,
            "lineno": warning_message.lineno,
        }
        self.tell("warning", {**said, "when": when, "nodeid": nodeid, "location": location})


def run_test(item: pytest.Item, guard: Guard, folder: Path, nonce: str) -> int:
    """Run one test from its setup to the exit handlers that it has registered, and say the nonce at the very end."""
    atexit._clear()  # what the parent has registered is the parent's; multiprocessing does the same  # noqa: SLF001
    fatal = (folder / FATAL).open("wb", buffering=0)
    faulthandler.enable(file=fatal.fileno(), all_threads=True)
    teller = Teller(item.config, folder, nonce)
    item.config.pluginmanager.register(teller, "crashcart-teller")
    leave_to_parent(item.session)
    with child.phase("test") if guard.hang_after is not None else nullcontext():
        try:
            with catch_warnings_for_item(config=item.config, ihook=item.ihook, when="runtest", item=item):
                runtestprotocol(item, log=False, nextitem=None)
        except pytest.exit.Exception as error:
            teller.tell("exit", {"text": str(error.msg), "code": error.returncode})
        except KeyboardInterrupt:
            teller.tell("interrupt", traceback.format_exc())
        except BaseException:  # noqa: BLE001 - pytest calls it an internal error, and so does the parent
            teller.tell("internal", traceback.format_exc())
        _finish(item.config)
    teller.tell("end", True)  # noqa: FBT003 - a line with nothing to add
    child.finish()
    return 0


def leave_to_parent(session: pytest.Session) -> None:
    """Forget the finalizers of everything that is set up already: they are the parent's to call."""
    for finalizers, _ in session._setupstate.stack.values():  # noqa: SLF001 - pytest has no public word for this
        for finalizer in finalizers:
            definition = getattr(getattr(finalizer, "func", None), "__self__", None)
            if isinstance(definition, pytest.FixtureDef):  # a change of its parameter would call them, too
                definition._finalizers.clear()  # noqa: SLF001 - as above
        finalizers.clear()


def _finish(config: pytest.Config) -> None:
    """End as an interpreter does, with what belongs to the test: threads, exit handlers, buffers.

    The C library's exit handlers are not run: in a fork, those of the parent's libraries wait for threads that do not
    exist here.
    """
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.resume_global_capture()  # what is said from here on is not the terminal's business
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons  # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001 - as above
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
