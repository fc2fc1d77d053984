"""The tools that take stacks of a live process, and the command line of each; the least intrusive first.

py-spy stops every thread for the time of a dump (ptrace) and shows Python and, with ``--native``, native frames; for
these it takes four times as long as eu-stack (elfutils), which therefore follows it where it is there
(`harness.stacks.joined`). pystack (elfutils) also shows threads that Python never saw. eu-stack and gdb serve for
processes without Python; gdb knows arguments and lines, where there is debug information, and takes ten times as long.
None of them is run before a suspicion is recorded, and never two on one process at a time.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.probes.proc import mapped_files, read_bytes, read_stat

DEBUGGERS: Final = {"gdb": 8.0, "cuda-gdb": 16.0, "rocgdb": 16.0}
"""With the time of each in seconds. They print alike. Those of the GPU vendors stop the GPU as well as the process, and
are tried last: on an H100 cuda-gdb took 9.7 s, and the process may not have survived it (docs/evidence/gpu_tools.md).
"""
DEEPEST: Final = "4096"
"""Frames of one thread that eu-stack is to follow. Its own bound of 256 is passed by ten nested calls through C."""
LARGE_FILE: Final = 16 << 20
"""From so many bytes on, a program or library is taken to have many symbols."""
BESIDE_CUDA: Final = Path("/usr/local/cuda/bin")
"""Where NVIDIA's installer puts its tools, often without telling the PATH."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackTool:
    """One way to take the stacks of a process."""

    name: str
    argv: tuple[str, ...]
    suffix: str
    """Of the file that its output goes to; it tells the parser, too."""
    seconds: float
    """Its share of the time, in seconds, before it is cut off."""
    then: tuple[str, ...] = ()
    """A second command that is run right after it; its output follows in the same file (`harness.stacks.joined`)."""
    names: tuple[str, ...] = ()
    """What finds the names that the tool leaves out (`harness.stacks.eu_stack`); it reads addresses, one a line."""


def find(name: str) -> str | None:
    """Return a tool of this environment, or the one on the PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name) or shutil.which(name, path=BESIDE_CUDA)


def tools_for(pid: int, without: frozenset[str] = frozenset()) -> Sequence[StackTool]:
    """Return what can be tried on a process, in this order, until one gives a stack."""
    able: list[StackTool] = []
    eu_stack = find("eu-stack") if "eu_stack" not in without else None
    namer = find("eu-addr2line") if eu_stack is not None else None
    names = (namer, "-a", "-S", "-C", "-p", str(pid)) if namer is not None else ()
    if is_python(pid):
        if (spy := find("py-spy")) and "py_spy" not in without:
            stopped = _is_stopped(pid)
            dump = (spy, "dump", "--json", "--pid", str(pid), *(["--nonblocking"] if stopped else []))
            if eu_stack is not None and names:
                then = (eu_stack, "-n", DEEPEST, "-q", "-m", "-p", str(pid))
                both = "py-spy + eu-stack"
                able.append(StackTool(name=both, argv=dump, then=then, names=names, suffix="joined.txt", seconds=8.0))
            if not stopped:
                argv = (*dump, "--native")
                able.append(StackTool(name="py-spy --native", argv=argv, suffix="pyspy.json", seconds=8.0))
            able.append(StackTool(name="py-spy", argv=dump, suffix="pyspy.json", seconds=4.0))
        if (pystack := find("pystack")) and "pystack" not in without:
            remote = (pystack, "remote", "--native-all", str(pid))
            able.append(StackTool(name="pystack", argv=remote, suffix="pystack.txt", seconds=8.0))
    if eu_stack is not None:
        later = names if _maps_large_file(pid) else ()
        words = (eu_stack, "-n", DEEPEST, *(["-q"] if later else []), "-m", "-p", str(pid))
        able.append(StackTool(name="eu-stack", argv=words, suffix="eu.txt", seconds=6.0, names=later))
    for debugger, seconds in DEBUGGERS.items():
        if (found := find(debugger)) and debugger.replace("-", "_") not in without:
            quiet = ("-batch", "-nx", "-iex", "set debuginfod enabled off", "-ex", "thread apply all bt")
            words = (found, "-p", str(pid), *quiet)
            able.append(StackTool(name=debugger, argv=words, suffix="gdb.txt", seconds=seconds))
    return able


def is_python(pid: int) -> bool:
    """Whether a process runs a Python interpreter, by its executable or a mapped libpython."""
    try:
        if os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("python"):  # noqa: PTH119 - a plain string
            return True
    except OSError:
        return False
    return b"libpython" in read_bytes(f"/proc/{pid}/maps")


def _maps_large_file(pid: int) -> bool:
    """Whether so many symbols may be mapped that it is worth a second program to look for each but once."""
    for path in {file.path for file in mapped_files(pid)}:
        with suppress(OSError):
            if os.stat(path).st_size >= LARGE_FILE:  # noqa: PTH116 - a plain string
                return True
    return False


def _is_stopped(pid: int) -> bool:
    """Whether a signal has stopped a process: py-spy cannot stop it again, and need not."""
    stat = read_stat(pid)
    return stat is not None and stat.state == "T"


def tracer_of(pid: int) -> int:
    """Return the pid of the process that traces this one, 0 if none does."""
    for line in read_bytes(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"TracerPid:"):
            return int(line.split()[1])
    return 0
