"""Stacks of a tree of 64 processes: crashcart's capture against py-spy over the same processes one by one.

``python benchmarks/stacks.py [--rounds 3]``; with a local Ray in the tree where Ray is installed. Both see the same
tree, in turns. ``crashcart`` is `CaptureJob` as a supervisor runs it, and the merge after it; ``py-spy`` is
``py-spy dump --native --json`` for each process in turn, which gives nothing for shells and Ray's C++ daemons.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness.events import StacksCaptured  # noqa: E402 - runs from a checkout
from harness.probes import proc  # noqa: E402
from harness.probes.stack_tools import find  # noqa: E402
from harness.snapshot import family  # noqa: E402
from harness.supervise.capture import CaptureJob  # noqa: E402
from harness.supervise.merged import merge_captures  # noqa: E402

SECONDS = 10.0
TIMES = 1.8
LINES = 200


def ours(pid: int, folder: Path) -> tuple[float, list[StacksCaptured], int]:
    """Return the seconds, what was captured, and the lines of the merged text."""
    began = time.monotonic()
    root = proc.read_stat(pid)
    assert root is not None  # noqa: S101 - it was started by this program
    stats = family(root)
    job = CaptureJob([stat.key for stat in stats], folder / "stacks", lambda _: None, set())
    while not job.advance():
        time.sleep(0.004)
    merged = merge_captures(job.captures, {stat.key: proc.read_title(stat.pid) for stat in stats}, folder)
    return time.monotonic() - began, job.captures, len(merged.text.splitlines()) if merged is not None else 0


def one_by_one(pid: int) -> tuple[float, int]:
    """Return the seconds, and of how many processes py-spy gave a stack."""
    spy = find("py-spy") or "py-spy"
    root = proc.read_stat(pid)
    assert root is not None  # noqa: S101 - it was started by this program
    given = 0
    began = time.monotonic()
    for stat in family(root):
        command = [spy, "dump", "--native", "--json", "--pid", str(stat.pid)]
        given += subprocess.run(command, capture_output=True, check=False).returncode == 0
    return time.monotonic() - began, given


def main() -> None:
    """Grow the tree, take its stacks both ways in turns, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    grove = ROOT / "tests" / "programs" / "grove.py"
    with tempfile.TemporaryDirectory(prefix="cc-", dir="/tmp") as folder:
        where = f"{folder}/r" if find_spec("ray") else "-"
        env = {**os.environ, "RAY_AUTH_TOKEN_PATH": f"{folder}/token", "RAY_DEDUP_LOGS": "0"}
        Path(folder, "token").write_text("0" * 64)
        with subprocess.Popen([sys.executable, str(grove), where], stdout=subprocess.PIPE, env=env) as process:
            try:
                while process.stdout is not None and b"ready" not in process.stdout.readline():
                    pass
                _compare(process.pid, Path(folder), rounds)
            finally:
                root = proc.read_stat(process.pid)
                for stat in reversed(family(root)) if root is not None else ():
                    os.kill(stat.pid, 9)


def _compare(pid: int, folder: Path, rounds: int) -> None:
    root = proc.read_stat(pid)
    assert root is not None  # noqa: S101 - it was started by this program
    print(f"{len(family(root))} processes, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(
        "| round | crashcart s | with a stack | a process was held s (median, most) | merged lines "
        "| py-spy one by one s | with a stack | times as fast |"
    )
    print("|---|---|---|---|---|---|---|---|")
    ratios, seconds, lines = [], [], []
    for number in range(rounds):
        place = folder / str(number)
        place.mkdir()
        took, captures, length = ours(pid, place)
        single, given = one_by_one(pid)
        stacks = len({captured.key for captured in captures if captured.path and captured.tool not in {"proc", "none"}})
        held = [captured.held_s for captured in captures if captured.tool not in {"proc", "none"}]
        paused = f"{statistics.median(held):.3f}, {max(held):.3f}" if held else "-"
        print(
            f"| {number + 1} | {took:.1f} | {stacks} | {paused} | {length} "
            f"| {single:.1f} | {given} | {single / took:.2f} |"
        )
        ratios.append(single / took)
        seconds.append(took)
        lines.append(length)
        sys.stdout.flush()
    holds = max(seconds) <= SECONDS and statistics.median(ratios) >= TIMES and max(lines) <= LINES
    print(f"median {statistics.median(ratios):.2f} times as fast, slowest {max(seconds):.1f} s: ", end="")
    print(f"{'holds' if holds else 'does not hold'} (≤ {SECONDS:g} s, ≥ {TIMES} times, ≤ {LINES} lines)")


if __name__ == "__main__":
    main()
