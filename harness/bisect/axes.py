"""What can be bisected over: releases, wheels, nightlies by date, vectors of them, commits and images.

An axis lists candidates in their order in time, and prepares one: from there on a run of it costs no installation.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from harness.bisect.history import Candidate
from harness.bisect.one import Prepared
from harness.environments import distribution, overlay
from harness.errors import EnvironmentBuildError, UsageError

LIST_S: Final = 120
PULL_S: Final = 3600


class Axis(Protocol):
    """What the driver asks of an axis."""

    def prepare(self, candidate: Candidate) -> Prepared:
        """Make a version ready to run.

        Raises:
            EnvironmentBuildError: If it cannot be had here; the version is untestable then.
        """

    def fingerprint(self, candidate: Candidate) -> str | None:
        """Return a hash of what the version puts in place, or ``None`` where that cannot be told."""

    def close(self) -> None:
        """Give back what was only needed for this bisection."""


class Packages:
    """Releases of one package or of several, each an overlay before the environment's own (docs/adr/0001).

    ``axes`` maps a package to the scenario's version axis; a package without one is put on the child's path.
    """

    def __init__(self, axes: Mapping[str, str]) -> None:
        self.axes = axes

    def prepare(self, candidate: Candidate) -> Prepared:
        """Install what is not in the cache."""
        params: dict[str, str] = {}
        paths = []
        sources = {}
        for package, version, source in wanted(candidate):
            folder = overlay(package, version, source)
            if package in self.axes:
                params[self.axes[package]] = version
                if source is not None:
                    sources[package] = source
            else:
                paths.append(str(folder))
        return Prepared(params=params, paths=tuple(paths), sources=sources)

    def fingerprint(self, candidate: Candidate) -> str | None:
        """Hash the files of the packages, less their metadata and compiled code."""
        digest = hashlib.sha256()
        try:
            folders = [overlay(package, version, source) for package, version, source in wanted(candidate)]
        except EnvironmentBuildError:
            return None
        for folder in folders:
            hash_tree(folder, digest)
        return digest.hexdigest()

    def close(self) -> None:
        """Do nothing: overlays are a cache that others use, too."""


def hash_tree(folder: Path, digest: hashlib._Hash) -> None:
    """Add names and contents of the files below a folder to a digest, less metadata and compiled code."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        own = {"requirements.txt", ".lock"}  # what the installation itself leaves there
        if path.is_file() and "__pycache__" not in name.parts and not name.parts[0].endswith(".dist-info"):
            if str(name) in own:
                continue
            digest.update(str(name).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())


def wanted(candidate: Candidate) -> list[tuple[str, str, str | None]]:
    """Return package, version and, for wheels, where it lies."""
    return [
        (package, version, candidate.source.get(f"wheel:{package}"))
        for key, version in candidate.source.items()
        if (package := key.removeprefix("package:")) != key
    ]


def release(package: str, version: str, wheel: str | None = None) -> Candidate:
    """Return the candidate of one release."""
    source = {f"package:{package}": version} | ({f"wheel:{package}": wheel} if wheel else {})
    return Candidate(name=version, source=source)


def releases_of(package: str, *, pre: bool = False) -> list[str]:
    """Return the releases of a package that the configured index has, oldest first.

    Raises:
        UsageError: If no index can be asked.
    """
    command = [sys.executable, "-m", "pip", "index", "versions", distribution(package), "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*command, *(["--pre"] if pre else [])], capture_output=True, text=True, timeout=LIST_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"the releases of {package} cannot be listed: {error}"
        raise UsageError(msg, hint="name them with --versions V1,V2,…") from error
    found = re.search(r"^Available versions: (.+)$", done.stdout, re.MULTILINE)
    if found is None:
        said = " ".join(done.stderr.split())[-200:]
        msg = f"the releases of {package} cannot be listed: {said}"
        raise UsageError(msg, hint="name them with --versions V1,V2,…")
    return ordered(version.strip() for version in found[1].split(","))


def ordered(versions: Iterable[str]) -> list[str]:
    """Return versions in their order by PEP 440, without repetition.

    Raises:
        UsageError: If one is malformed.
    """
    try:
        return sorted(dict.fromkeys(versions), key=Version)
    except InvalidVersion as error:
        raise UsageError(str(error).lower(), hint="versions look like 1.2.3 or 1.2.3.post1") from error


def wheels(package: str, place: Path) -> list[Candidate]:
    """Return the wheels of a package: of a folder, by version; of a file that lists paths or URLs, in its order.

    Raises:
        UsageError: If there is none, or a name is not that of a wheel.
    """
    if place.is_dir():
        found = [str(path.absolute()) for path in place.glob("*.whl")]
    elif place.is_file():
        found = [line.strip() for line in place.read_text().splitlines() if line.strip() and not line.startswith("#")]
    else:
        msg = f"no folder and no list of wheels: {place}"
        raise UsageError(msg, hint="name a folder with *.whl, or a file with one path or URL a line")
    candidates = []
    for wheel in found:
        name = wheel.rstrip("/").rpartition("/")[2].partition("#")[0].replace("%2B", "+")
        try:
            distribution, version, *_ = parse_wheel_filename(name)
        except InvalidWheelFilename as error:
            raise UsageError(str(error).lower(), hint="wheels are named NAME-VERSION-….whl") from error
        if distribution == canonicalize_name(package):
            candidates.append(release(package, str(version), wheel))
    if place.is_dir():
        candidates.sort(key=lambda candidate: Version(candidate.name))
    if not candidates:
        msg = f"no wheel of {package} in {place}"
        raise UsageError(msg, hint=f"it holds {len(found)} wheels of other packages")
    return candidates


def nightlies(package: str, dates: str, template: str) -> list[Candidate]:
    """Return one candidate a day, as ``2.14.0.dev{date}`` says; days that have no build turn out to be untestable.

    Raises:
        UsageError: If the dates are not ``YYYY-MM-DD..YYYY-MM-DD``, or the template has no ``{date}``.
    """
    first, dots, last = dates.partition("..")
    try:
        day, end = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
    except ValueError as error:
        msg = f"{dates!r} is not of the form YYYY-MM-DD..YYYY-MM-DD"
        raise UsageError(msg, hint="example: 2026-01-01..2026-02-01") from error
    if not dots or "{date}" not in template or end < day:
        msg = f"{dates!r} with the template {template!r} names no versions"
        raise UsageError(msg, hint="example: --dates 2026-01-01..2026-02-01 --template '2.14.0.dev{date}'")
    days = [day + dt.timedelta(days=offset) for offset in range((end - day).days + 1)]
    return [release(package, template.replace("{date}", f"{one:%Y%m%d}")) for one in days]


def vectors(place: Path) -> list[Candidate]:
    """Return the candidates of a file: each line is one, ``torch==2.12.0 vllm==0.31.0``, in their order in time.

    Raises:
        UsageError: If it cannot be read that way.
    """
    try:
        lines = [line.split("#")[0].split() for line in place.read_text().splitlines()]
    except OSError as error:
        msg = f"cannot read {place}: {error.strerror}"
        raise UsageError(msg, hint="one vector a line, like: torch==2.12.0 vllm==0.31.0") from error
    candidates = []
    for line in filter(None, lines):
        pairs = [part.partition("==") for part in line]
        if not all(package and equals and version for package, equals, version in pairs):
            msg = f"{place}: {' '.join(line)!r} is no vector"
            raise UsageError(msg, hint="one vector a line, like: torch==2.12.0 vllm==0.31.0")
        source = {f"package:{package}": version for package, _, version in pairs}
        candidates.append(Candidate(name=" ".join(line), source=source))
    return candidates


class Images:
    """Container images; the command runs in one, and is judged by what comes out of ``docker run``."""

    def prepare(self, candidate: Candidate) -> Prepared:
        """Pull the image."""
        try:
            done = subprocess.run(
                ["docker", "pull", "--quiet", candidate.name],
                capture_output=True, text=True, timeout=PULL_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            msg = f"{candidate.name} cannot be pulled: {error}"
            raise EnvironmentBuildError(msg) from error
        if done.returncode:
            msg = f"{candidate.name} cannot be pulled: {' '.join(done.stderr.split())[-200:]}"
            raise EnvironmentBuildError(msg)
        return Prepared(prefix=("docker", "run", "--rm", "--init", candidate.name))

    def fingerprint(self, candidate: Candidate) -> str | None:
        """Return the id of the image, which is a hash of its contents."""
        done = subprocess.run(
            ["docker", "image", "inspect", "--format", "{{.Id}}", candidate.name],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout.strip() or None

    def close(self) -> None:
        """Do nothing: images are docker's business."""


def images(names: Sequence[str]) -> list[Candidate]:
    """Return the candidates of image references, in the order given."""
    return [Candidate(name=name) for name in names]
