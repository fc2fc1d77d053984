"""A log of the session as JSON lines, one write each, so that it says where pytest was when pytest itself died."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest

SCHEMA = 1


class EventLog:
    """Appends an event to the file for whatever happens in the session."""

    def __init__(self, path: str) -> None:
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            msg = f"--crashcart-log {path}: cannot be written: {error.strerror}"
            raise pytest.UsageError(msg) from error
        self._pid = os.getpid()

    def pytest_sessionstart(self) -> None:
        """The session begins."""
        self._write("session_started", schema=SCHEMA, pid=self._pid)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """All tests are known; under pytest-xdist the workers know them."""
        self._write("collected", tests=len(session.items))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins; what has begun and not finished was running when the log stopped."""
        self._write("test_started", test=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A phase of a test is over."""
        self._write(
            "phase",
            test=report.nodeid,
            when=report.when,
            outcome=report.outcome,
            seconds=round(report.duration, 4),
            text=report.longreprtext if report.longrepr is not None else "",
            xfail=getattr(report, "wasxfail", None),
            worker=getattr(report, "worker_id", None),
            properties={str(name): str(value) for name, value in report.user_properties},
        )

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test is over."""
        self._write("test_finished", test=nodeid)

    def pytest_internalerror(self, excrepr: object) -> None:
        """Pytest itself has failed."""
        self._write("internal_error", text=str(excrepr))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """The session has ended in order."""
        self._write("session_finished", exit_status=int(exitstatus))

    def _write(self, event: str, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        if os.getpid() != self._pid:
            return  # a forked child tells its reports to the parent
        line = {"event": event, "wall_s": round(time.time(), 6), **facts}
        os.write(self._descriptor, json.dumps(line, default=str).encode() + b"\n")
