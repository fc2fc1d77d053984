"""Runs pytest with the plugin in a folder of its own, and holds its JUnit file against the schema every time."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree as ET

import psutil
import pytest
import xmlschema

SCHEMA = xmlschema.XMLSchema(Path(__file__).with_name("junit.xsd"))
ROOT = Path(__file__).resolve().parents[3]
IMPORTS = """
import atexit, ctypes, os, resource, signal, subprocess, sys, threading, time, unittest, warnings
import pytest
"""
COUNTED = ("passed", "failed", "errors", "skipped", "xfailed", "xpassed", "rerun")


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a session."""

    code: int
    text: str
    outcomes: dict[str, int]
    folder: Path
    junit: ET.Element

    def cases(self) -> dict[str, list[str]]:
        """Return the JUnit cases with what each says of itself."""
        return {
            case.get("name", ""): [
                part.tag for part in case if part.tag not in {"system-out", "system-err", "properties"}
            ]
            for case in self.junit.iter("testcase")
        }

    def properties(self, name: str) -> dict[str, str]:
        """Return the properties of a JUnit case."""
        found = [case for case in self.junit.iter("testcase") if case.get("name") == name]
        return {one.get("name", ""): one.get("value", "") for case in found for one in case.iter("property")}


RunTests = Callable[..., Ran]


def outcomes(text: str) -> dict[str, int]:
    """Read the last line of pytest."""
    last = [line for line in text.splitlines() if re.search(r" in [\d.]+s", line)]
    found = re.findall(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed|rerun)", last[-1]) if last else []
    return {("errors" if word.startswith("error") else word): int(number) for number, word in found}


def read_junit(path: Path) -> ET.Element:
    """Read a JUnit file that is valid and whose counts are those of its cases."""
    SCHEMA.validate(path)
    root = ET.parse(path).getroot()  # noqa: S314 - our own file
    (suite,) = root
    cases = list(suite)
    for tag, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert int(suite.get(name, "0")) == sum(len(case.findall(tag)) for case in cases), tag
    return root


@pytest.fixture
def in_folder(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a folder with the leases of GPUs in it, and without our own configuration or a CI's."""
    for name in ("PYTEST_ADDOPTS", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "CUDA_VISIBLE_DEVICES", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CRASHCART_LEASES", str(pytester.path / "leases"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLUMNS", "240")
    return pytester


@pytest.fixture
def run_tests(in_folder: pytest.Pytester) -> RunTests:
    """Return a function that runs a module of tests and checks what must hold in each session."""

    def run(source: str, *args: str, **files: str) -> Ran:
        (in_folder.path / "test_it.py").write_text(IMPORTS + dedent(source))
        for name, text in files.items():
            (in_folder.path / f"{name}.py").write_text(IMPORTS + dedent(text))
        junit = in_folder.path / "junit.xml"
        junit.unlink(missing_ok=True)
        done = in_folder.runpytest_subprocess("-p", "no:asyncio", f"--junitxml={junit}", *args, timeout=120)
        text = "\n".join([*done.outlines, *done.errlines])
        return Ran(int(done.ret), text, outcomes(text), in_folder.path, read_junit(junit))

    return run


def alive(marker: str) -> list[str]:
    """Return the live processes that have a word in their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if marker in line and process.info["status"] != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
            found.append(line)
    return found
