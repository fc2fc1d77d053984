"""Merges the stacks of a million ranks, read from a stream, and shows how time and memory grow up to there.

Each rank's stack is a gdb dump of its own: 40 frames of one of 30 classes, with the addresses of its own address space
(81 of them: each frame's, each object's, the thread's), its own pid, thread id and rank among the arguments. A child
process makes the texts and writes them into a pipe; this process reads, parses, merges, renders. What is remembered is
the text of a stack *after* its addresses and decimal arguments were cut out, and cutting is done to every dump. ``cpu``
is this process's own time, ``wall`` includes waiting for the generator.

``python benchmarks/merge_million.py [SIZE…]``, each size in a process of its own, so that ``ru_maxrss`` is its own.
"""

from __future__ import annotations

import json
import os
import platform
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness.events import ProcessKey  # noqa: E402 - runs from a checkout
from harness.stacks.dumps import Tool, read_dumps, write_dump  # noqa: E402
from harness.stacks.merge import Merger  # noqa: E402
from harness.stacks.model import Process  # noqa: E402
from harness.stacks.render import LINES, text  # noqa: E402
from harness.stacks.suspect import suspects  # noqa: E402

SIZES = (1_000, 10_000, 100_000, 1_000_000)
CLASSES = 30
DEPTH = 40
SECONDS = 60
MEBIBYTES = 1024
CHUNK = 1 << 20


def templates() -> list[list[str]]:
    """Return, per class, the pieces of a dump between which each rank's own addresses stand."""
    dice = random.Random(40)
    made = []
    for number in range(CLASSES):
        shared = dice.randrange(8, 30)  # how far in from the outermost frame the class agrees with the others
        lines = ['Thread 1 (Thread 0x7f@ (LWP PID) "rank"):\n']
        for depth in range(DEPTH):
            outer = DEPTH - depth
            name = f"ns::Layer{outer}::step_{outer}" + ("" if outer < shared else f"_c{number}")
            lines.append(f"#{depth:<2} 0x00007f@ in {name} (this=0x55@, n={depth}) at /src/l{outer}.cpp:{outer * 7}\n")
        made.append("".join(lines).split("@"))
    return made


def generate(ranks: int) -> None:
    """Write one dump per rank to stdout."""
    dice = random.Random(41)
    made = templates()
    places = len(made[0]) - 1
    out, pieces, size = sys.stdout.buffer, [], 0
    for rank in range(ranks):
        digits = dice.randbytes(5 * places).hex()
        dump = [""] * (2 * places + 1)
        dump[::2] = made[dice.randrange(CLASSES)]
        dump[1::2] = [digits[at : at + 10] for at in range(0, 10 * places, 10)]
        process = Process(ProcessKey(1000 + rank, 5_000_000 + rank), "train.py", "trainer", rank)
        piece = write_dump(
            process, "".join(dump).replace("PID", str(1000 + rank)).replace("n=7", f"rank={rank}"), tool=Tool.GDB
        )
        pieces.append(piece)
        size += len(piece)
        if size > CHUNK:
            out.write(b"".join(pieces))
            pieces, size = [], 0
    out.write(b"".join(pieces))


def measure(ranks: int) -> None:
    """Merge so many ranks and print the figures as JSON."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, __file__, "--generate", str(ranks)], stdout=subprocess.PIPE, bufsize=0
    ) as child:
        assert child.stdout is not None  # noqa: S101 - for the type checker
        stream, read, merger, stacks = child.stdout, 0, Merger(), 0

        def pieces() -> object:
            nonlocal read
            while piece := stream.read(CHUNK):
                read += len(piece)
                yield piece

        for dump in read_dumps(pieces()):  # type: ignore[arg-type]
            for stack in dump:
                merger.add(stack)
                stacks += 1
    merged = merger.result()
    lines = text(merged, suspects(merged)).count("\n")
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps({
            "ranks": ranks, "stacks": stacks, "classes": len(merged.classes), "nodes": len(merged.tree.parents) - 1,
            "lines": lines, "read_mib": read / 2**20, "wall_s": time.perf_counter() - start,
            "cpu_s": used.ru_utime + used.ru_stime, "mib": used.ru_maxrss / 1024,
        })
    )  # fmt: skip


def main(sizes: tuple[int, ...]) -> int:
    """Measure each size and print a table; 1 if the largest misses its limits."""
    print(f"{platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} cores, "
          f"nice {os.getpriority(os.PRIO_PROCESS, 0)}, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print(
        f"{'ranks':>9} {'text MiB':>9} {'wall s':>7} {'cpu s':>7} {'us/stack':>9} {'peak MiB':>9} {'classes':>8} nodes"
    )
    good = True
    for ranks in sizes:
        done = subprocess.run(
            [sys.executable, __file__, "--measure", str(ranks)], stdout=subprocess.PIPE, text=True, check=True
        )
        row = json.loads(done.stdout)
        print(f"{ranks:>9} {row['read_mib']:>9.1f} {row['wall_s']:>7.2f} {row['cpu_s']:>7.2f} "
              f"{row['cpu_s'] / ranks * 1e6:>9.1f} {row['mib']:>9.1f} {row['classes']:>8} {row['nodes']}")  # fmt: skip
        good = row["stacks"] == ranks and row["classes"] == min(CLASSES, ranks) and row["lines"] <= LINES
        good = good and row["wall_s"] < SECONDS and row["mib"] < MEBIBYTES
    print("within" if good else "NOT within", f"{SECONDS} s and {MEBIBYTES} MiB at {sizes[-1]} ranks")
    return 0 if good else 1


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--generate", number]:
            generate(int(number))
        case ["--measure", number]:
            measure(int(number))
        case given:
            sys.exit(main(tuple(map(int, given)) or SIZES))
