"""What the projects' own collectors say of this machine, taken when an attempt has failed: later they may say else.

Each collector is a process group of its own with a deadline. One that hangs, as on a wedged GPU, is cut off, and
``collected.json`` says so; so does it of one that is not there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

FOLDER: Final = "environment"
INDEX: Final = "collected.json"
OUTPUT_MIB: Final = 4
SHOWN: Final = re.compile(
    r"(?:TORCH|PYTORCH|NCCL|RCCL|CUDA|NVIDIA|HIP|ROCM|ROCR|HSA|AMD|VLLM|SGLANG|SGL|RAY|VERL|GLOO|OMP|MKL|KMP|HF_HUB|UCX"
    r"|OPAL|FI|TRITON|LD_|PYTHON|CRASHCART_WITHOUT|LANG|SLURM_(?:NNODES|NTASKS|GPUS))"
)
HIDDEN: Final = re.compile(r"(?i)token|secret|passw|credential|auth|key|cookie")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """A program that describes the machine or a stack."""

    name: str
    argv: tuple[str, ...]
    needs: str = ""
    """A module (``python:NAME``) or a tool (``tool:NAME``) that must be there."""
    deadline_s: float = 30.0


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one collector: ``ok``, ``failed``, ``cut off`` or ``missing``."""

    name: str
    status: str
    detail: str = ""
    file: str = ""
    seconds: float = 0.0


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """``collected.json``."""

    moment: str
    """After which attempt, or that it was when the bundle was made."""
    wall_ns: int
    collectors: tuple[Collected, ...]


COLLECTORS: Final = (
    Collector(
        name="torch", argv=(sys.executable, "-m", "torch.utils.collect_env"), needs="python:torch", deadline_s=60
    ),
    Collector(name="vllm", argv=(sys.executable, "-m", "vllm.collect_env"), needs="python:vllm", deadline_s=90),
    Collector(name="sglang", argv=(sys.executable, "-m", "sglang.check_env"), needs="python:sglang", deadline_s=90),
    Collector(name="ray", argv=(sys.executable, "-m", "ray.scripts.scripts", "--version"), needs="python:ray"),
    Collector(name="nvidia-smi", argv=("nvidia-smi", "-q"), needs="tool:nvidia-smi"),
    Collector(name="nvidia-topology", argv=("nvidia-smi", "topo", "-m"), needs="tool:nvidia-smi"),
    Collector(
        name="nvidia-bug-report",
        argv=("nvidia-bug-report.sh", "--safe-mode", "--output-file", "nvidia-bug-report.log"),
        needs="tool:nvidia-bug-report.sh",
        deadline_s=90,
    ),
    Collector(name="rocminfo", argv=("rocminfo", "--support"), needs="tool:rocminfo"),
    Collector(name="amd-smi", argv=("amd-smi", "static"), needs="tool:amd-smi"),
    Collector(name="amd-smi-process", argv=("amd-smi", "process"), needs="tool:amd-smi"),
    Collector(name="rocm-techsupport", argv=("rocm_techsupport.sh",), needs="tool:rocm_techsupport.sh", deadline_s=90),
    Collector(name="dmesg", argv=("dmesg", "--level=emerg,alert,crit,err,warn"), needs="tool:dmesg", deadline_s=10),
    Collector(name="cpu", argv=("lscpu",), needs="tool:lscpu", deadline_s=10),
)


class Collection:
    """Collectors at work in the background, one thread each.

    Args:
        folder: Where their output goes; made here.
        moment: See `Index`.
        collectors: Which.
    """

    def __init__(self, folder: Path, moment: str, collectors: tuple[Collector, ...] = COLLECTORS) -> None:
        self.folder = folder
        self.moment = moment
        self.began = time.time_ns()
        self._done: dict[str, Collected] = {}
        self._stop = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        self._threads = [
            threading.Thread(target=self._work, args=(collector,), name=f"collect {collector.name}", daemon=True)
            for collector in collectors
        ]
        for thread in self._threads:
            thread.start()
        _write_facts(folder)

    def wait(self, cut_short: Callable[[], bool] = lambda: False) -> Index:
        """Wait for all of them, each to its deadline at most, and write the index.

        Raises:
            OSError: If it cannot be written.
        """
        while any(thread.is_alive() for thread in self._threads):
            if cut_short():
                self._stop.set()
            for thread in self._threads:
                thread.join(0.05)
        index = Index(moment=self.moment, wall_ns=self.began, collectors=tuple(self._done.values()))
        (self.folder / INDEX).write_bytes(msgspec.json.format(msgspec.json.encode(index)))
        return index

    def _work(self, collector: Collector) -> None:
        reason = _missing(collector)
        if reason is not None:
            self._done[collector.name] = Collected(name=collector.name, status="missing", detail=reason)
            return
        began = time.monotonic()
        path = self.folder / f"{collector.name}.txt"
        try:
            status, detail = self._run(collector, path)
        except OSError as error:
            status, detail = "failed", f"{type(error).__name__}: {error.strerror}"
        self._done[collector.name] = Collected(
            name=collector.name,
            status=status,
            detail=detail,
            file=path.name if path.exists() and path.stat().st_size else "",
            seconds=round(time.monotonic() - began, 1),
        )

    def _run(self, collector: Collector, path: Path) -> tuple[str, str]:
        with path.open("wb") as out:
            process = subprocess.Popen(
                collector.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )
        until = time.monotonic() + collector.deadline_s
        while process.poll() is None and time.monotonic() < until and not self._stop.is_set():
            time.sleep(0.05)
            if path.stat().st_size > OUTPUT_MIB << 20:
                break
        code = process.poll()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children, too; what hangs in the kernel stays behind
        if code is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
            gone = "" if process.poll() is not None else "; it hangs in the kernel and could not be ended"
            why = "interrupted" if self._stop.is_set() else f"no end after {collector.deadline_s:g} s"
            return "cut off", why + gone
        return ("ok", "") if code == 0 else ("failed", f"exit code {code}")


def _missing(collector: Collector) -> str | None:
    kind, _, name = collector.needs.partition(":")
    if kind == "python" and importlib.util.find_spec(name) is None:
        return f"{name} is not installed"
    if kind == "tool" and shutil.which(name) is None:
        return f"there is no {name} here"
    return None


def _write_facts(folder: Path) -> None:
    """Write what needs no program: packages, settings, limits, container, memory."""
    found = [(str(dist.name), dist.version) for dist in metadata.distributions() if dist.name]
    packages = dict(reversed(found))  # of two releases on the path the first is the one that is imported
    facts = {
        "packages.json": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
        "variables.json": variables(os.environ),
    }
    for name, value in facts.items():
        (folder / name).write_text(json.dumps(value, indent=1) + "\n")
    parts = [
        f"== {path}\n{text.strip()}\n"
        for path in ("/etc/os-release", "/proc/version", "/proc/meminfo", "/proc/self/limits", "/proc/self/cgroup")
        if (text := _text(path))
    ]
    parts.append(f"== container\n{_container()}\n")
    with suppress(OSError):
        shm = shutil.disk_usage("/dev/shm")  # noqa: S108 - the folder that runtimes use
        parts.append(f"== /dev/shm\n{shm.used >> 20} of {shm.total >> 20} MiB in use\n")
    (folder / "machine.txt").write_text("\n".join(parts))


def variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return the names of all variables, with the values of those that steer a stack and can hold no secret."""
    return {
        name: value if SHOWN.match(name) and not HIDDEN.search(name) and "@" not in value else None
        for name, value in sorted(environment.items())
    }


def _container() -> str:
    if Path("/.dockerenv").exists():
        return "docker (/.dockerenv)"
    named = os.environ.get("container") or ("kubernetes" if "KUBERNETES_SERVICE_HOST" in os.environ else "")  # noqa: SIM112
    return named or "none known"


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
