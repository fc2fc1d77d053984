"""Other releases of a package beside the installed ones: overlays, cached folders put before the environment's own.

An overlay holds the one package without its dependencies, so that a matrix over its releases costs megabytes and
seconds, and the environment that crashcart is installed into is never changed (docs/adr/0001).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from importlib import metadata, resources
from pathlib import Path

from harness.errors import EnvironmentBuildError

INSTALL_S = 600


def cache_folder() -> Path:
    """Return where overlays and models are kept: ``CRASHCART_CACHE``, or ``crashcart`` below the user's cache."""
    named = os.environ.get("CRASHCART_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(base) / "crashcart"


def overlay(package: str, version: str, source: str | None = None) -> Path:
    """Return the folder of a release, installing it first where that was not done before.

    With ``source``, a wheel file or a URL, that is installed, whatever an index has; a file is known by its contents.

    Raises:
        EnvironmentBuildError: With the resolver's reason, if that release cannot be had here.
    """
    hashes = _hashes(package, version) if source is None else []
    origin = [] if source is None else [source, _contents(Path(source))]
    key = hashlib.sha256(" ".join([package, version, sys.version, *hashes, *origin]).encode()).hexdigest()[:10]
    target = cache_folder() / "overlays" / f"{package}-{version}-{key}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _install(source or f"{package}=={version}", hashes, building)
        try:
            building.rename(target)
        except OSError:
            if not target.is_dir():  # another crashcart was faster
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def path_with(overlays: Mapping[str, Path], python_path: str) -> str:
    """Return a PYTHONPATH on which the overlays come first."""
    return os.pathsep.join([*(str(path) for path in overlays.values()), *([python_path] if python_path else [])])


def effective_version(package: str, folder: Path) -> str:
    """Return the version that an overlay really holds, from its own metadata."""
    found = [dist.version for dist in metadata.distributions(path=[str(folder)]) if dist.name.lower() == package]
    return found[0] if found else "unknown"


def _hashes(package: str, version: str) -> list[str]:
    try:
        table = tomllib.loads(resources.files("scenarios").joinpath("locks/overlays.toml").read_text())
    except (FileNotFoundError, ModuleNotFoundError):
        return []
    return list(table.get(package, {}).get(version, {}).get("sha256", []))


def _contents(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _install(what: str, hashes: list[str], target: Path) -> None:
    requirement = what + "".join(f" --hash=sha256:{digest}" for digest in hashes)
    what = what.replace("==", " ")
    listed = target / "requirements.txt"
    listed.write_text(requirement + "\n")
    command = [*_installer(), "--target", str(target), "--no-deps", *(["--require-hashes"] if hashes else [])]
    env = dict(os.environ)
    if "PIP_FIND_LINKS" in env:
        env.setdefault("UV_FIND_LINKS", env["PIP_FIND_LINKS"])
    try:
        done = subprocess.run(
            [*command, "-r", str(listed)], capture_output=True, text=True, timeout=INSTALL_S, check=False, env=env
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"{what} cannot be installed: {error}"
        raise EnvironmentBuildError(msg) from error
    if done.returncode:
        said = " ".join(done.stderr.split())[-400:]
        msg = f"{what} cannot be installed here: {said}"
        raise EnvironmentBuildError(msg)


def _installer() -> list[str]:
    try:
        metadata.version("uv")
    except metadata.PackageNotFoundError:
        return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", sys.executable]
