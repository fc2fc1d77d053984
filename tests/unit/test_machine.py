"""What is read off the machine for the record."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.probes.machine import _packages, driver_version

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (x@y)  Wed\nGCC version:\n"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"


@pytest.mark.parametrize(
    ("text", "release"), [(OPEN, "580.159.04"), (CLOSED, "535.104.05"), ("NVRM version: x\n", None)]
)
def test_the_driver_is_known_by_its_own_file(tmp_path: Path, text: str, release: str | None) -> None:
    """Both flavours of the kernel module; a text without a release gives none."""
    (tmp_path / "version").write_text(text)
    assert driver_version(tmp_path / "version") == release


def test_a_machine_without_the_driver_has_no_release(tmp_path: Path) -> None:
    """A missing file is no error."""
    assert driver_version(tmp_path / "version") is None


def test_of_two_releases_on_the_path_the_first_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one that is imported: a folder before the environment's own is how other releases are tried."""
    for folder, release in (("second", "1.0"), ("first", "2.0")):
        info = tmp_path / folder / "some_stack.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Some_Stack\nVersion: {release}\n")
        monkeypatch.syspath_prepend(tmp_path / folder)
    assert _packages()["some-stack"] == "2.0"
