"""Tells somebody: a command of the user's, with the summary on its standard input."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec

from harness.nightly.config import Notify
from harness.nightly.summary import Summary


def notify(settings: Notify, summary: Summary, markdown: Path, folder: Path) -> str:
    """Run the command, in the folder of the configuration; return what became of it. Never raises: the night is over.

    It is bounded in time, and its exit code is not the night's.
    """
    env = {
        **os.environ,
        "CRASHCART_NIGHTLY": summary.nightly,
        "CRASHCART_NIGHT": summary.night,
        "CRASHCART_EXIT_CODE": str(summary.exit_code),
        "CRASHCART_SUMMARY": str(markdown),
    }
    return call(settings, msgspec.json.encode(summary), env, folder)


def notify_failure(settings: Notify, name: str, message: str, folder: Path) -> str:
    """Tell that a night could not even begin."""
    env = {**os.environ, "CRASHCART_NIGHTLY": name, "CRASHCART_EXIT_CODE": "2"}
    return call(settings, msgspec.json.encode({"schema": 1, "nightly": name, "error": message}), env, folder)


def call(settings: Notify, data: bytes, env: dict[str, str], folder: Path) -> str:
    """Run the command with that input and environment."""
    try:
        done = subprocess.run(
            settings.command,
            input=data,
            env=env,
            cwd=folder,
            timeout=settings.seconds,
            capture_output=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the notification failed: {error}"
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[-200:]
        return f"the notification ended with {done.returncode}: {said}"
    return "sent"
