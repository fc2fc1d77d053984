"""What only the process that reports does, and only where it was asked for: the log, JUnit's flaky tags, GitHub."""

from __future__ import annotations

import os

import pytest


def register(config: pytest.Config) -> None:
    """Register what this session needs.

    Raises:
        pytest.UsageError: If the log cannot be opened.
    """
    if config.getoption("xmlpath", None):
        from harness.pytest_plugin.flaky import FlakyTags

        config.pluginmanager.register(FlakyTags(config), "crashcart-flaky")
    if path := config.option.crashcart_log:
        from harness.pytest_plugin.log import EventLog

        config.pluginmanager.register(EventLog(path), "crashcart-log")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from harness.pytest_plugin.github import GitHub

        config.pluginmanager.register(GitHub(config, os.environ.get("GITHUB_STEP_SUMMARY", "")), "crashcart-github")
