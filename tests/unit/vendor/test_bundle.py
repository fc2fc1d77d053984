"""A bundle holds what it says, says what it lacks, fits an issue, and is not written while it holds a secret."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import msgspec
import pytest

from harness.errors import UsageError
from harness.probes.collectors import FOLDER, INDEX, Collected, Index
from reports.redaction.redactor import Redactor
from reports.vendor.bundle import Bundle, LeakError, Request, bundle
from reports.vendor.install import requirements
from reports.vendor.vendors import VENDORS
from tests.unit.redaction.planting import made, survives
from tests.unit.reports import sample

TOKEN = made("bundle", 30)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample.record(tmp_path_factory.mktemp("vendor") / "run")


@pytest.fixture
def run(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run with secrets in its output, collected when it failed, with one collector that hung."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    directory = tmp_path / "run"
    shutil.copytree(recorded, directory)
    folder = directory / FOLDER
    folder.mkdir()
    collectors = (
        Collected(name="torch", status="ok", file="torch.txt"),
        Collected(name="vllm", status="cut off", detail="no end after 90 s"),
    )
    index = Index(moment=f"after attempt 1 of {sample.CRASH.id}", wall_ns=1, collectors=collectors)
    (folder / INDEX).write_bytes(msgspec.json.encode(index))
    (folder / "torch.txt").write_text("PyTorch version: 2.13.0+cpu\n")
    (folder / "packages.json").write_text('{"torch": "2.13.0+cpu", "vllm": "0.32.0"}')
    (folder / "variables.json").write_text('{"ACME_TOKEN": null, "VLLM_LOGGING_LEVEL": "DEBUG", "PATH": null}')
    (directory / "cells" / sample.CRASH.folder / "1" / "stderr").write_text(
        f"calling with {TOKEN} from 10.3.4.5\nTraceback (most recent call last)\n" + "x = 1\n" * 90_000
    )
    (directory / "cells" / sample.CRASH.folder / "1" / "core").write_bytes(b"\x7fELF\0\0")
    return directory


def make(run: Path, vendor: str = "vllm", variables: Mapping[str, str] | None = None, **more: Any) -> Bundle:  # noqa: ANN401
    known = {"ACME_TOKEN": TOKEN} if variables is None else variables
    return bundle(Request(run=run, vendor=VENDORS[vendor], out=run.parent / "b.zip", variables=known, **more))


def members(made_: Bundle) -> dict[str, str]:
    with ZipFile(made_.archive) as archive:
        return {name.partition("/")[2]: archive.read(name).decode() for name in archive.namelist()}


def test_it_holds_the_record_and_no_secret(run: Path) -> None:
    inside = members(make(run))
    assert {"issue.md", "manifest.json", "evidence/events.jsonl", "evidence/results.jsonl", "evidence/stderr"} <= set(
        inside
    )
    assert [name for name, text in inside.items() if survives(TOKEN, text) or "10.3.4.5" in text] == []
    assert "calling with [secret:ACME_TOKEN] from address-1" in inside["evidence/stderr"]


def test_the_manifest_says_what_is_missing_and_why(run: Path) -> None:
    manifest = json.loads(members(make(run))["manifest.json"])
    why = {one["what"]: one["why"] for one in manifest["missing"]}
    assert why["collector vllm"] == "cut off: no end after 90 s"
    assert why["evidence/core"] == "it is no text, and cannot be redacted"
    assert why["reproduce.py"] == "'sample' is not known here"
    assert "192 KiB are kept" in why["the middle of evidence/stderr"]
    assert manifest["files"].keys() | {"manifest.json"} == set(members(make(run)))


@pytest.mark.parametrize("vendor", VENDORS)
def test_each_vendor_gets_its_own_headings_in_a_size_that_fits(run: Path, vendor: str) -> None:
    text = make(run, vendor).issue.read_text()
    headings = [line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")]
    assert headings == [heading for heading, _ in VENDORS[vendor].headings]
    assert len(text) <= 65_536
    assert "orphaned EngineCore" in text


def test_a_secret_of_the_run_that_is_not_known_now_is_refused(run: Path) -> None:
    with pytest.raises(UsageError, match="ACME_TOKEN was set when the run was made"):
        make(run, variables={})
    assert make(run, variables={}, accept_unknown=True).archive.exists()


def test_an_archive_that_would_hold_a_secret_is_not_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last scan does not rely on the redactor: here the redactor does nothing at all."""
    monkeypatch.setattr(Redactor, "redact", lambda _, text: text)
    with pytest.raises(LeakError, match="ACME_TOKEN") as refused:
        make(run)
    assert TOKEN not in refused.value.one_line()
    assert list(run.parent.glob("*.zip")) == []
    assert list(run.parent.glob(".b.zip*")) == []


def test_without_redaction_everything_stands_there_and_it_is_said(run: Path) -> None:
    inside = members(make(run, redact=False))
    assert TOKEN in inside["evidence/stderr"]
    assert json.loads(inside["manifest.json"])["redaction"]["on"] is False


@pytest.mark.parametrize(
    ("cell", "what"),
    [("sample[what=nothing]", "has no cell"), (sample.CONTROL.id, "did not fail: absent")],
)
def test_a_cell_that_cannot_be_reported_is_one_line(run: Path, cell: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        make(run, cell=cell)


def test_requirements_follow_the_extras_that_a_package_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """``web[standard]`` brings what ``web`` alone does not; what was not installed is not asked for."""
    listed = {
        "engine": ["web[standard]>=1"],
        "web": ["base", 'server[standard]; extra == "standard"', 'other; extra == "all"'],
        "server": ['loop; extra == "standard"', 'gone; extra == "standard"'],
    }
    monkeypatch.setattr("reports.vendor.install.metadata.packages_distributions", lambda: {"engine": ["engine"]})
    monkeypatch.setattr("reports.vendor.install.metadata.requires", lambda name: listed.get(name, []))
    installed = dict.fromkeys(("engine", "web", "base", "server", "loop", "other"), "1.0")
    assert set(requirements(["engine"], {}, installed)) == {"engine", "web", "base", "server", "loop"}
