"""What the catalogue says about one program of the zoo, and how such a program is built and started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

ZOO: Final = Path(__file__).parent
COMPILERS: Final = {".c": ("gcc", "-Wall", "-pthread"), ".cc": ("g++", "-Wall", "-std=c++17", "-pthread")}
TOOLS: Final = frozenset({"bash", "g++", "gcc", "gdb", "make", "ninja"})

Class = Literal["deadlock", "livelock", "waiting_for_peer", "stopped", "uninterruptible", "gpu_busy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program of the zoo.

    Args:
        path: The file, relative to the zoo; its stem is the name.
        arguments: What follows the file in the command; may use the placeholders of `command`.
        kind: Whether it hangs, or is slow or idle, and healthy.
        hang: The class that a hang belongs to.
        also: Classes that may be said instead, since /proc alone cannot tell.
        suspect: Regular expression that matches the command line of each acceptable suspect. The program prints them as
            well, best first, as lines ``suspect pid N``; one may be dead. Only the test reads those.
        proved: A hang that can be told from the state of the tree alone; otherwise it is found as `suspected`, or by a
            declared phase.
        phases: Whether the program declares phases.
        idle: A healthy program that rightly does nothing at all, and never ends by itself.
        settle_s: Seconds after the start until the hang is there, or the idleness, on a small and busy machine.
        needs: Packages and tools without which it cannot run.
        reason: Why the class, or why it is healthy.
    """

    path: str
    arguments: tuple[str, ...] = ()
    kind: Literal["hang", "healthy"]
    hang: Class | None = None
    also: tuple[Class, ...] = ()
    suspect: str = ""
    proved: bool = False
    phases: bool = False
    idle: bool = False
    settle_s: float = 2.0
    needs: frozenset[str] = frozenset()
    reason: str

    @property
    def name(self) -> str:
        return Path(self.path).stem

    @property
    def group(self) -> Literal["open", "sealed"]:
        return "sealed" if self.path.startswith("sealed/") else "open"

    @property
    def command(self) -> tuple[str, ...]:
        """The command with the placeholders {python}, {zoo}, {build} and, in healthy programs, {seconds}."""
        suffix = Path(self.path).suffix
        if suffix in COMPILERS:
            return (f"{{build}}/{self.name}", *self.arguments)
        interpreter = {".py": "{python}", ".sh": "bash" if "bash" in self.needs else "sh"}[suffix]
        return (interpreter, f"{{zoo}}/{self.path}", *self.arguments)

    def argv(self, build: Path, seconds: int = 120) -> list[str]:
        """The command of this machine; healthy programs that end by themselves do so after about so many seconds."""
        values = {"python": sys.executable, "zoo": str(ZOO), "build": str(build), "seconds": str(seconds)}
        return [part.format(**values) for part in self.command]

    def missing(self) -> str | None:
        """Say what the machine lacks to run it, or None."""
        lacking = sorted(need for need in self.needs if not available(need))
        return f"needs {', '.join(lacking)}" if lacking else None


@cache
def available(need: str) -> bool:
    """Whether a tool, a package or `fuse` (in a user namespace) is there."""
    if need == "fuse":
        command = ["unshare", "--user", "--map-root-user", "--mount", "true"]
        return (
            os.access("/dev/fuse", os.W_OK) and not subprocess.run(command, check=False, capture_output=True).returncode
        )
    return shutil.which(need) is not None if need in TOOLS else find_spec(need) is not None


def build(program: Program, folder: Path) -> None:
    """Compile a program that is written in C or C++; nothing otherwise."""
    source = ZOO / program.path
    if source.suffix in COMPILERS:
        command = [*COMPILERS[source.suffix], "-O1", str(source), "-o", str(folder / program.name)]
        subprocess.run(command, check=True)
