"""Writes every attempt of a test that was run again into the JUnit file, with the elements that Surefire introduced.

``flakyFailure``: it failed and passed later. ``rerunFailure``: it failed, and failed later, too.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from _pytest.junitxml import xml_key

MESSAGE_CHARS = 300


class FlakyTags:
    """Adds the elements before pytest closes the test's own."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look at the last report of a test."""
        failures: list[tuple[str, str]] = getattr(report, "crashcart_failures", [])
        log = self._config.stash.get(xml_key, None)
        if report.when != "teardown" or not failures or log is None:
            return
        reporter = log.node_reporter(report)
        tag = "flakyFailure" if getattr(report, "crashcart_flaky", False) else "rerunFailure"
        for message, text in failures:
            element = ET.Element(tag, type="failure", message=_printable(message[:MESSAGE_CHARS]))
            ET.SubElement(element, "stackTrace").text = _printable(text)
            reporter.append(element)


def _printable(text: str) -> str:
    """Return text without the characters that XML forbids."""
    return "".join(letter if letter in "\t\n" or " " <= letter < "\ufffe" else "?" for letter in text)
