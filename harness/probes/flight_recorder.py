"""What PyTorch's flight recorder says of each rank: its last collectives, and which of them were never completed.

``ProcessGroupNCCL`` keeps the last collectives of every group in a ring (``TORCH_FR_BUFFER_SIZE``, by its older name
``TORCH_NCCL_TRACE_BUFFER_SIZE``). It writes them to a file when a collective times out, if told to
(``TORCH_NCCL_DUMP_ON_TIMEOUT``), or as soon as something is written to the named pipe that
``TORCH_NCCL_DEBUG_INFO_PIPE_FILE`` asked for, which takes no tracing stop. The files are pickles; they are read without
importing anything that they name.
"""

from __future__ import annotations

import io
import os
import pickle
import stat
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.probes.proc import read_cookie, read_stat

PIPE: Final = b"TORCH_NCCL_DEBUG_INFO_PIPE_FILE"
FILES: Final = (b"TORCH_FR_DUMP_TEMP_FILE", b"TORCH_NCCL_DEBUG_INFO_TEMP_FILE")
"""How the names of the dumps begin; the rank follows. The second is the older name of the first."""
DEFAULT_FILE: Final = "torch/comm_lib_trace_rank_"
"""The same below the user's cache, where nothing is set (torch 2.8 and later)."""
SUFFIX: Final = ".pipe"
_PLAIN: Final = frozenset({
    "build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag",
})  # fmt: skip
"""What torch's own pickler may name: each only hands its first argument through."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """The recorder of one process: where it takes orders, and where its dumps go."""

    pid: int
    rank: str
    pipe: Path
    dump: Path


@dataclass(frozen=True, slots=True)
class Collective:
    """One entry of the ring."""

    group: str
    number: int
    """By which the ranks of a group match their collectives."""
    name: str
    state: str
    """``scheduled``, ``started`` (on the GPU), or ``completed``."""
    sizes: str


def find_recorders(pids: Iterable[int]) -> list[Recorder]:
    """Return the recorders of these processes that take orders, one for each pipe.

    Who starts another process passes the open pipe on (torch does not ask for it to be closed), and the environment.
    The oldest holder has made it. The name says the rank only, which in a container may well be some other one's pid.
    """
    found: dict[str, Recorder] = {}
    for pid in sorted(pids, key=_age):
        beginning = read_cookie(pid, PIPE) or ""
        for pipe in _pipes(pid, beginning) if beginning else ():
            rank = pipe[len(beginning) : -len(SUFFIX)]
            found.setdefault(pipe, Recorder(pid, rank, Path(pipe), Path(_dumps(pid) + rank)))
    return list(found.values())


def order_dump(recorder: Recorder) -> None:
    """Ask for a dump; the process writes it within a second or two, from a thread of its own.

    Raises:
        OSError: If nobody reads the pipe any more, or something else has that name here.
    """
    descriptor = os.open(recorder.pipe, os.O_WRONLY | os.O_NONBLOCK)
    try:
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            msg = f"{recorder.pipe} is no pipe"
            raise OSError(msg)
        os.write(descriptor, b"1")
    finally:
        os.close(descriptor)


def load(data: bytes) -> dict[str, Any]:
    """Return the content of a dump.

    Raises:
        ValueError: If it is none, was cut off, or names anything but plain data.
    """
    try:
        found = _Plain(io.BytesIO(data)).load()
    except Exception as error:  # a broken pickle raises nearly anything
        msg = f"no dump of a flight recorder: {error}"
        raise ValueError(msg) from error
    if wrong := _wrong(found):
        msg = f"no dump of a flight recorder: {wrong}"
        raise ValueError(msg)
    return dict(found)


def _wrong(found: object) -> str:
    """Return why something is no dump; empty if it is one."""
    if not isinstance(found, dict) or not isinstance(found.get("entries"), list | tuple):
        return "it has no entries"
    return next(
        (f"its entry {number} has another layout" for number, one in enumerate(found["entries"]) if not _is_entry(one)),
        "",
    )


def _is_entry(entry: object) -> bool:
    """Whether `last_collectives` can read it; what it only shows may be anything, and anything may be missing."""
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("process_group", ()), list | tuple)
        and isinstance(entry.get("collective_seq_id", 0), int)
    )


def last_collectives(dump: Mapping[str, Any]) -> dict[str, Collective]:
    """Return the last collective of each group that a dump knows, sends and receives aside."""
    found: dict[str, Collective] = {}
    for entry in dump["entries"]:
        if entry.get("is_p2p"):
            continue
        one = Collective(
            group=":".join(str(part) for part in entry.get("process_group", ("?",))),
            number=int(entry.get("collective_seq_id", -1)),
            name=str(entry.get("profiling_name", "?")).rpartition(":")[2],
            state=str(entry.get("state", "?")),
            sizes=str(entry.get("input_sizes", "")),
        )
        if one.group not in found or one.number >= found[one.group].number:
            found[one.group] = one
    return found


def summarise(dumps: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each group: what each rank did last, and which ranks had not come to the furthest by then.

    The dumps are seconds apart: who is behind may have been on its way.
    """
    by_rank = {rank: last_collectives(dump) for rank, dump in dumps.items()}
    groups = sorted({group for last in by_rank.values() for group in last})
    return [_line(group, {rank: last[group] for rank, last in by_rank.items() if group in last}) for group in groups]


def _line(group: str, last: Mapping[str, Collective]) -> str:
    ranks = sorted(last, key=lambda rank: (len(rank), rank))
    each = "; ".join(f"rank {rank}: {last[rank].name} {last[rank].number} {last[rank].state}" for rank in ranks)
    furthest = max(one.number for one in last.values())
    behind = [rank for rank in ranks if last[rank].number < furthest]
    leader = next(one for one in last.values() if one.number == furthest)
    if not behind or leader.state == "completed":
        return f"group {group}: {each}"
    who, wrote = ("ranks", "they wrote") if len(behind) > 1 else ("rank", "it wrote")
    what = " ".join(filter(None, [leader.name, str(furthest), leader.sizes]))
    return f"group {group}: {each}; {who} {', '.join(behind)} had not come to {what} when {wrote}"


def _dumps(pid: int) -> str:
    """Return how the names of a process's dumps begin."""
    named = next(filter(None, (read_cookie(pid, name) for name in FILES)), None)
    if named:
        return named
    home = read_cookie(pid, b"HOME") or "/tmp"  # noqa: S108 - torch's own choice
    return f"{read_cookie(pid, b'XDG_CACHE_HOME') or f'{home}/.cache'}/{DEFAULT_FILE}"


def _age(pid: int) -> tuple[int, int]:
    seen = read_stat(pid)
    return (seen.start if seen is not None else sys.maxsize, pid)


def _pipes(pid: int, beginning: str) -> Sequence[str]:
    """Return the named pipes that a process has open and whose names begin so."""
    found = []
    with suppress(OSError):  # the process is gone, or not ours to ask
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # closed by now
                path = os.readlink(entry.path)
                if path.startswith(beginning) and path.endswith(SUFFIX) and stat.S_ISFIFO(entry.stat().st_mode):
                    found.append(path)
    return found


class _Plain(pickle.Unpickler):
    """Reads plain data; a dump comes from a process that may be anybody's."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Hand torch's lists through, and refuse everything else."""
        if module == "torch.jit._pickle" and name in _PLAIN:
            return lambda value, *_: value
        msg = f"it names {module}.{name}"
        raise pickle.UnpicklingError(msg)
