"""A checkout of a package as one of its releases: the branch's own modules over what only a build can make.

Nothing is built. The folder of the package is copied as it stands, changes that are not committed included; compiled
parts and generated modules that it lacks are those of the installed release. So the author of a fix in Python runs a
matrix on a branch at once, and a checkout that was built in place brings its own compiled parts along.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

from harness.errors import UsageError

ROOTS: Final = (".", "src", "python")
"""Where a checkout may have its packages."""
LEFT_OUT: Final = frozenset({"__pycache__", ".git", ".venv", "node_modules"})


def import_names(package: str) -> list[str]:
    """Return the top-level names that a distribution brings, as far as it is installed; else its own name."""
    wanted = canonicalize_name(package)
    installed = metadata.packages_distributions().items()
    found = [name for name, dists in installed if wanted in {canonicalize_name(dist) for dist in dists}]
    return found or [package.replace("-", "_")]


def find_packages(package: str, checkout: Path) -> dict[str, Path]:
    """Return the folders of a distribution's packages in a checkout, by their import names.

    Raises:
        UsageError: If there is none.
    """
    names = import_names(package)
    found = {
        name: folder
        for root in reversed(ROOTS)
        for name in names
        if (folder := checkout / root / name).is_dir() and (folder / "__init__.py").exists()
    }
    if not found:
        looked = ", ".join(str(checkout / root / name) for root in ROOTS for name in names)
        msg = f"{checkout} is no checkout of {package}: no package at {looked}"
        raise UsageError(msg, hint="name the folder of a checkout, a wheel file, a release, or `installed`")
    return found


def fingerprint(package: str, checkout: Path) -> str:
    """Return a hash of all that `lay_out` would take from the checkout and from the installed release."""
    digest = hashlib.sha256(_installed_version(package).encode())
    for name, folder in find_packages(package, checkout).items():
        for path in _files(folder):
            digest.update(f"{name}/{path.relative_to(folder)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def lay_out(package: str, checkout: Path, target: Path) -> None:
    """Write the packages of a checkout to an empty folder, and metadata that says what they are."""
    for name, folder in find_packages(package, checkout).items():
        for path in _files(folder):
            copy = target / name / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
        installed = _installed(package, name)
        if installed is not None and not installed.samefile(folder):
            _complete(installed, folder, target / name)
    info = target / f"{package.replace('-', '_')}-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: {version_of(package, checkout)}\n"
    )


def version_of(package: str, checkout: Path) -> str:
    """Return what a checkout is: its version and its commit, like ``3.52.0+g1a2b3c4.dirty``."""
    try:
        project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
        version = str(project["version"])
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        version = _installed_version(package) or "0"
    commit = _git(checkout, "rev-parse", "--short=7", "HEAD")
    if commit is None:
        return f"{version}+local.{fingerprint(package, checkout)[:10]}"
    dirty = ".dirty" if _git(checkout, "status", "--porcelain") else ""
    return f"{version.partition('+')[0]}+g{commit}{dirty}"


def _complete(installed: Path, folder: Path, target: Path) -> None:
    """Link what the checkout lacks and only a build makes: all that is no Python, and modules that git ignores."""
    lacking = [path for path in _files(installed) if not (target / path.relative_to(installed)).exists()]
    modules = [str(folder / path.relative_to(installed)) for path in lacking if path.suffix == ".py"]
    ignored = set((_git(folder, "check-ignore", "--", *modules) or "").splitlines()) if modules else set()
    for path in lacking:
        inner = path.relative_to(installed)
        if path.suffix != ".py" or str(folder / inner) in ignored:
            link = target / inner
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)


def _installed(package: str, name: str) -> Path | None:
    """Return the folder of an installed package: by its metadata, since the checkout itself may lie on the path."""
    with suppress(metadata.PackageNotFoundError):
        folder = Path(str(metadata.distribution(package).locate_file(name)))
        if folder.is_dir():
            return folder
    spec = find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _files(folder: Path) -> Iterator[Path]:
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        yield from (Path(base) / name for name in sorted(names))


def _installed_version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
