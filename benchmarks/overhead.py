"""What supervision costs: process spawns and vLLM's tokens per second, bare and watched in turns.

    python benchmarks/overhead.py spawns [--rounds 15]   2,000 spawns; also with the connector
    python benchmarks/overhead.py vllm [--rounds 5]      offline generation with a tiny model on the CPU stack

Every round runs each way once, in an order that turns round by round; the ratio is of the medians, its interval is
between the 5th and the 95th percentile of 2,000 bootstrap samples. The time is taken by the program itself, so that the
start of crashcart's own interpreter is not in it.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[1]
SPAWNS: Final = (
    "import os, time\n"
    "began = time.monotonic()\n"
    "for _ in range(2000):\n"
    "    os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)\n"
    "print('figure', time.monotonic() - began)\n"
)
GENERATE: Final = (
    "import time\n"
    "from vllm import LLM, SamplingParams\n"
    "from scenarios.programs.engine_args import engine_args\n"
    "from scenarios.programs.tiny_model import tiny_model\n"
    "llm = LLM(**engine_args(str(tiny_model())))\n"
    "some = SamplingParams(max_tokens=256, ignore_eos=True, temperature=0)\n"
    "prompts = [{'prompt_token_ids': [5 + n, 6, 7]} for n in range(16)]\n"
    "llm.generate(prompts, some, use_tqdm=False)\n"
    "began = time.monotonic()\n"
    "for _ in range(4):\n"
    "    llm.generate(prompts, some, use_tqdm=False)\n"
    "print('figure', 4 * 16 * 256 / (time.monotonic() - began))\n"
)
WAYS: Final = {"bare": None, "watched": (), "connector": ("--connector",)}


def figure(program: str, way: str) -> float:
    """Run a program one way and return the figure that it printed."""
    with tempfile.TemporaryDirectory(prefix="cc-") as folder:
        options = WAYS[way]
        command = [sys.executable, "-c", program]
        if options is not None:
            command = [sys.executable, "-m", "harness", "watch", "--out", f"{folder}/run", *options, "--", *command]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "VLLM_LOGGING_LEVEL": "ERROR"}
        out = subprocess.run(command, capture_output=True, text=True, check=True, env=env, cwd=folder).stdout
    return next(float(line.split()[1]) for line in out.splitlines() if line.startswith("figure "))


def interval(some: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """Return the ratio of the medians and its 5th and 95th percentile by bootstrap."""
    chance = random.Random(1)
    ratios = sorted(
        statistics.median(chance.choices(some, k=len(some))) / statistics.median(chance.choices(others, k=len(others)))
        for _ in range(2000)
    )
    return statistics.median(some) / statistics.median(others), ratios[100], ratios[1900]


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["spawns", "vllm"])
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    spawns = options.what == "spawns"
    if not spawns and find_spec("vllm") is None:
        sys.exit("vLLM is not installed here: make stack")
    ways = list(WAYS) if spawns else ["bare", "watched"]
    rounds = options.rounds or (15 if spawns else 5)
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            found[way].append(figure(SPAWNS if spawns else GENERATE, way))
            print(f"\rround {number + 1} of {rounds}: {way} {found[way][-1]:.2f}   ", end="", file=sys.stderr)
    print(file=sys.stderr)
    print(f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, {rounds} rounds")
    print(
        f"| way | {'2,000 spawns, s' if spawns else 'output tok/s'} | against bare | 90% interval |\n|---|---|---|---|"
    )
    for way in ways:
        ratio, low, high = interval(found[way], found["bare"])
        print(f"| {way} | {statistics.median(found[way]):.3f} | {ratio:.3f} | {low:.3f} to {high:.3f} |")
    ratio = interval(found["watched"], found["bare"])[0]
    good = ratio <= 1.03 if spawns else ratio >= 0.99  # noqa: PLR2004 - the promise
    print(
        f"watched against bare {ratio:.3f}: {'holds' if good else 'does not hold'} ({'≤ 1.03' if spawns else '≥ 0.99'})"
    )


if __name__ == "__main__":
    main()
