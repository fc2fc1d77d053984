"""GitHub Actions: the summary of the step and annotations at the tests that failed, within GitHub's limits."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

SUMMARY_BYTES: Final = 1000 * 1024
"""A step's summary of more than 1024 KiB is thrown away as a whole."""
TEXT_CHARS: Final = 20_000
ANNOTATIONS: Final = 10
"""GitHub shows ten errors per step."""


class GitHub:
    """Collects the outcomes and writes them at the end."""

    def __init__(self, config: pytest.Config, summary: str) -> None:
        self._config = config
        self._summary = summary
        self._pid = os.getpid()
        self._counts: Counter[str] = Counter()
        self._failed: list[pytest.TestReport] = []
        self._flaky: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the outcome."""
        if report.failed:
            self._failed.append(report)
            self._counts["failed" if report.when == "call" else "errors"] += 1
        elif report.skipped:
            self._counts["expected failures" if hasattr(report, "wasxfail") else "skipped"] += 1
        elif report.passed and report.when == "call":
            self._counts["passed"] += 1
        if getattr(report, "crashcart_flaky", False):
            self._flaky.append(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write annotations to the log of the step and the summary to its file."""
        if os.getpid() != self._pid:
            return
        for report in self._failed[:ANNOTATIONS]:
            terminalreporter.write_line(_annotation(report, self._config.rootpath))
        if self._summary:
            text = self._markdown().encode()
            with Path(self._summary).open("ab") as stream:
                stream.write(text)

    def _markdown(self) -> str:
        counts = ", ".join(f"{number} {word}" for word, number in sorted(self._counts.items())) or "nothing was run"
        parts = [f"### Tests: {counts}\n"]
        if self._flaky:
            parts.append("Flaky, passed after a failure:\n" + "".join(f"- `{name}`\n" for name in self._flaky))
        size = sum(len(part.encode()) for part in parts)
        for number, report in enumerate(self._failed):
            part = _details(report)
            if size + len(part.encode()) > SUMMARY_BYTES:
                parts.append(f"\n{len(self._failed) - number} more failures: the summary of a step is limited.\n")
                break
            parts.append(part)
            size += len(part.encode())
        return "\n".join(parts) + "\n"


def _details(report: pytest.TestReport) -> str:
    text = report.longreprtext[:TEXT_CHARS].replace("</", "<\u200b/").replace("````", "` ` ` `")
    head = f"{report.nodeid} ({report.when}): {_message(report)}".replace("&", "&amp;").replace("<", "&lt;")
    return f"<details><summary>{head}</summary>\n\n````\n{text}\n````\n\n</details>\n"


def _annotation(report: pytest.TestReport, root: Path) -> str:
    path, line, _ = report.location
    place = os.path.relpath(root / path, os.environ.get("GITHUB_WORKSPACE", str(root)))
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None and Path(str(crash.path)).name == Path(path).name:
        line = crash.lineno - 1
    return (
        f"::error file={_escaped(place, ':,')},line={(line or 0) + 1},title={_escaped(report.nodeid, ':,')}"
        f"::{_escaped(_message(report))}"
    )


def _message(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message) if crash is not None else report.longreprtext
    return text.strip().splitlines()[0][:300] if text.strip() else "failed"


def _escaped(text: str, also: str = "") -> str:
    """Escape as the runner's commands demand: percent signs and line ends, in properties colons and commas, too."""
    for letter in ("%", "\r", "\n", *also):
        text = text.replace(letter, f"%{ord(letter):02X}")
    return text
