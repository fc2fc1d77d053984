"""Commits of a local repository as an axis: each with a worktree and a build of its own, never the user's tree."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Final

from harness.bisect.history import Candidate
from harness.bisect.one import Prepared
from harness.errors import EnvironmentBuildError, UsageError

BUILD_S: Final = 3600.0
SHORT: Final = 12
LOCK: Final = threading.Lock()
"""``git worktree add`` of one repository at a time."""


def git(repository: Path, *arguments: str) -> str:
    """Return what a git command prints.

    Raises:
        UsageError: With git's own words, if it fails.
    """
    try:
        done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        msg = f"git cannot be run: {error.strerror}"
        raise UsageError(msg) from error
    if done.returncode:
        msg = f"git {arguments[0]} in {repository}: {' '.join(done.stderr.split())[-200:]}"
        raise UsageError(msg, hint="name a repository with --git, and commits with --good and --bad")
    return done.stdout.strip()


def commits(repository: Path, good: str, bad: str, *, first_parent: bool = True) -> list[Candidate]:
    """Return the commits from the older to the newer end, both included, along first parents.

    Raises:
        UsageError: If an end is no commit, or neither descends from the other.
    """
    old, new = (git(repository, "rev-parse", "--verify", f"{end}^{{commit}}") for end in (good, bad))
    if git(repository, "merge-base", old, new) == new != old:
        old, new = new, old
    if git(repository, "merge-base", old, new) != old:
        msg = f"neither of {good} and {bad} descends from the other"
        raise UsageError(msg, hint="take their common ancestor as one end: git merge-base A B")
    options = ["--first-parent"] if first_parent else ["--topo-order"]
    listed = git(repository, "log", "--reverse", *options, "--format=%H%x09%s", f"{old}..{new}").splitlines()
    first = git(repository, "log", "-1", "--format=%H%x09%s", old)
    found = []
    for line in [first, *listed]:
        commit, _, subject = line.partition("\t")
        found.append(Candidate(name=commit[:SHORT], source={"commit": commit, "subject": subject}))
    return found


def commit_name(repository: Path, end: str) -> str:
    """Return the name of the candidate that an end is.

    Raises:
        UsageError: If it is no commit.
    """
    return git(repository, "rev-parse", "--verify", f"{end}^{{commit}}")[:SHORT]


class Commits:
    """Prepares commits of one repository.

    Each has a worktree of its own below ``worktrees``, made anew and kept until the end, so that no commit is ever
    tested with files of another. The build command runs in it, in a shell; its failure makes the commit untestable,
    whatever its exit code.
    """

    def __init__(
        self, repository: Path, worktrees: Path, build: str | None = None, artefact: str | None = None
    ) -> None:
        self.repository = repository.absolute()
        self.worktrees = worktrees.absolute()
        self.build = build
        self.artefact = artefact

    def folder(self, candidate: Candidate) -> Path:
        """Return the worktree of a commit, whether or not it is there."""
        return self.worktrees / candidate.source["commit"]

    def prepare(self, candidate: Candidate) -> Prepared:
        """Check the commit out and build it, once."""
        folder = self.folder(candidate)
        done = folder.with_name(folder.name + ".built")
        with LOCK:
            if not done.exists():
                self._make(candidate, folder)
                done.touch()
        env: dict[str, str | None] = {
            "CRASHCART_CHECKOUT": str(folder),
            "CRASHCART_COMMIT": candidate.source["commit"],
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return Prepared(paths=(str(folder),), env=env, cwd=str(folder))

    def fingerprint(self, candidate: Candidate) -> str | None:
        """Hash what was built, where its path was named, else the tree of the commit."""
        if self.artefact is not None:
            path = self.folder(candidate) / self.artefact
            return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        return git(self.repository, "rev-parse", f"{candidate.source['commit']}^{{tree}}")

    def _make(self, candidate: Candidate, folder: Path) -> None:
        """Make the worktree anew: what an interrupted build has left is no state to go on from."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            git(self.repository, "worktree", "prune")
            git(self.repository, "worktree", "add", "--detach", "--force", str(folder), candidate.source["commit"])
        except UsageError as error:
            raise EnvironmentBuildError(str(error)) from error
        if self.build is None:
            return
        code, log = _run_build(self.build, folder)
        if code:
            said = " ".join(log.read_text(errors="replace").split())[-300:]
            msg = f"the build of {candidate.name} failed ({code}): {said}"
            raise EnvironmentBuildError(msg)

    def close(self) -> None:
        """Remove the worktrees, and what git notes of them in the repository; the logs of the builds stay."""
        for folder in self.worktrees.glob("*"):
            if folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)
        git(self.repository, "worktree", "prune")


def _run_build(build: str, folder: Path) -> tuple[str, Path]:
    """Run the build in a session of its own; return why it failed (empty if it did not) and its output."""
    log = folder.with_name(folder.name + ".log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["sh", "-c", build], cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        try:
            code = process.wait(BUILD_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"no end after {BUILD_S:g} s", log
    return f"exit {code}" if code else "", log
