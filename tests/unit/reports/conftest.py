"""The sample run, recorded once for all tests of reports; they only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.reports import sample


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the sample run."""
    return sample.record(tmp_path_factory.mktemp("reports") / "run")


@pytest.fixture(autouse=True)
def known_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sample's scenario be one that this crashcart knows."""
    monkeypatch.setattr("reports.judged.oracles", lambda: {"sample": sample.oracle})
