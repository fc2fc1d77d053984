"""What the debugging tools of a GPU give on this machine, and what they cost, on a process that holds one.

``python benchmarks/gpu_tools.py --out FOLDER``: NCCL's RAS service, every stack tool that is there (the debuggers of
the GPU vendors among them), and a GPU core dump on demand. Needs a GPU and torch; what the tools say is kept.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from harness.probes.gpu import Unavailable
from harness.probes.nccl_ras import ask, find_service
from harness.probes.proc import read_stat
from harness.probes.stack_tools import tools_for

HOLDER: Final = (
    "import socket, sys, time, torch, torch.distributed as dist\n"
    "with socket.socket() as probe:\n"
    "    probe.bind(('127.0.0.1', 0)); port = probe.getsockname()[1]\n"
    "dist.init_process_group('nccl', init_method=f'tcp://127.0.0.1:{port}', rank=0, world_size=1)\n"
    "one = torch.ones(1 << 20, device='cuda'); dist.all_reduce(one); torch.cuda.synchronize()\n"
    "open(sys.argv[1], 'w').close()\n"
    "while True:\n"
    "    one.mul_(1.0); torch.cuda.synchronize(); time.sleep(0.01)\n"
)
"""One rank with a communicator, at work."""
START_S: Final = 90.0
DUMP_S: Final = 30.0
SKIPPED: Final = (
    "skip_nonrelocated_elf_images,skip_global_memory,skip_shared_memory,skip_local_memory,skip_constbank_memory,"
    "skip_abort"
)
"""Contents that a core dump goes without (CUDA-GDB's manual, ``CUDA_COREDUMP_GENERATION_FLAGS``), and the abort."""


def start(out: Path) -> subprocess.Popen[bytes]:
    """Start the process and wait until it works."""
    env = {
        **os.environ,
        "CUDA_ENABLE_USER_TRIGGERED_COREDUMP": "1",
        "CUDA_COREDUMP_PIPE": str(out / "pipe.%p"),
        "CUDA_COREDUMP_FILE": str(out / "core.%p"),
        "CUDA_COREDUMP_GENERATION_FLAGS": SKIPPED,
    }
    ready = out / "ready"
    ready.unlink(missing_ok=True)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(ready)], env=env)
    until = time.monotonic() + START_S
    while not ready.exists():
        if holder.poll() is not None or time.monotonic() > until:
            holder.kill()
            sys.exit(f"no process that holds a GPU within {START_S:g} s (exit code {holder.poll()})")
        time.sleep(0.1)
    return holder


def say(what: str, began: float, found: str, holder: subprocess.Popen[bytes]) -> None:
    """Print a line of the table, with the state that the process is left in."""
    stat = read_stat(holder.pid)
    state = stat.state if stat is not None and holder.poll() is None else f"ended with {holder.poll()}"
    print(f"| {what} | {time.monotonic() - began:.2f} | {found} | {state} |", flush=True)


def try_ras(holder: subprocess.Popen[bytes], out: Path) -> None:
    """Ask NCCL."""
    began = time.monotonic()
    service = find_service([holder.pid])
    try:
        text = service.reason if isinstance(service, Unavailable) else ask(*service)
    except OSError as error:
        text = f"no answer: {error}"
    (out / "nccl-ras.txt").write_text(text)
    say("NCCL RAS", began, text.splitlines()[0] if text else "nothing", holder)


def try_tools(holder: subprocess.Popen[bytes], out: Path) -> None:
    """Take its stacks with one tool after another."""
    for tool in tools_for(holder.pid):
        began = time.monotonic()
        try:
            done = subprocess.run(tool.argv, capture_output=True, timeout=3 * tool.seconds, check=False)
            found = f"exit {done.returncode}, {len(done.stdout)} bytes"
            (out / f"{tool.name.replace(' ', '')}.txt").write_bytes(done.stdout + b"\n== stderr\n" + done.stderr)
        except subprocess.TimeoutExpired:
            found = f"not done in {3 * tool.seconds:g} s"
        say(tool.name, began, found, holder)


def try_core_dump(holder: subprocess.Popen[bytes], out: Path) -> None:
    """Write to the pipe that the driver has made, and wait for the file.

    Last: on an H100 with driver 580 the process went on for a moment, and its next call failed with "unspecified
    launch failure", in spite of ``skip_abort``.
    """
    began, pipe, core = time.monotonic(), out / f"pipe.{holder.pid}", out / f"core.{holder.pid}"
    if not pipe.exists():
        say("GPU core dump", began, f"the driver has made no {pipe.name}", holder)
        return
    try:
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        say("GPU core dump", began, f"nobody reads the pipe: {error.strerror}", holder)
        return
    with os.fdopen(descriptor, "wb", buffering=0) as trigger:
        trigger.write(b"1")
        size = -1
        while time.monotonic() - began < DUMP_S and not (core.exists() and core.stat().st_size == size > 0):
            size = core.stat().st_size if core.exists() else -1
            time.sleep(0.5)
    say("GPU core dump", began, f"{size} bytes" if size > 0 else f"no file in {DUMP_S:g} s", holder)


def main() -> None:
    """Try all of them, the most intrusive last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="what the tools say goes here")
    out: Path = parser.parse_args().out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    holder = start(out)
    print("| what | s | found | state afterwards |\n|---|---|---|---|", flush=True)
    try:
        try_ras(holder, out)
        try_tools(holder, out)
        try_core_dump(holder, out)
    finally:
        holder.kill()
        holder.wait()


if __name__ == "__main__":
    main()
