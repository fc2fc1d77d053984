"""What supervision costs: process spawns and vLLM's tokens per second, bare and watched in turns.

    python benchmarks/overhead.py spawns [--rounds 15]   2,000 spawns; also with the connector
    python benchmarks/overhead.py vllm [--rounds 5]      offline generation: alternating runs
    python benchmarks/overhead.py turns [--rounds 40]    the same in one run, its supervisor paused in every other turn

``--model`` says what generates: ``tiny``, whose host does nearly all the work, or for a GPU ``8b``, the layers of Llama
3.1 8B with dummy weights and CUDA graphs (14 GB of weights, in 40% of the GPU's memory). Ctrl-C and SIGTERM end it with
the rounds that it had.

Every round runs each way once, in an order that turns round by round. For ``spawns`` and ``vllm`` the ratio is of the
medians; for ``turns`` it is the median of the rounds' own ratios, each watched turn against the bare one beside it, as
clocks and other work drift. The interval is between the 5th and the 95th percentile of 2,000 bootstrap samples, of
``turns`` over the rounds. The time is taken by the program itself, so that the start of crashcart's own interpreter is
not in it.

Two starts of the same engine differ by far more than a supervisor costs (threads, memory, caches). ``turns`` leaves
that out: one engine, one supervisor, which SIGSTOP keeps from doing anything in every other turn. It says what the
looks cost and cannot see what membership alone costs, such as being in a cgroup. Below the table stands the processor
time that the supervisor and its helpers took in watched turns, of one processor.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil

ROOT = Path(__file__).resolve().parents[1]
PATHS: Final = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
SPAWNS: Final = (
    "import os, time\n"
    "began = time.monotonic()\n"
    "for _ in range(2000):\n"
    "    os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)\n"
    "print('figure', time.monotonic() - began)\n"
)
ENGINE: Final = (
    "import sys, time\n"
    "from scenarios.programs.engine_args import engine_settings, prepare_environment\n"
    "prepare_environment()\n"
    "from vllm import LLM, SamplingParams\n"
    "llm = LLM(**engine_settings(**@settings))\n"
    "some = SamplingParams(max_tokens=256, ignore_eos=True, temperature=0)\n"
    "prompts = [{'prompt_token_ids': [5 + n, 6, 7]} for n in range(16)]\n"
    "def generate():\n"
    "    began = time.monotonic()\n"
    "    for _ in range(@batches):\n"
    "        llm.generate(prompts, some, use_tqdm=False)\n"
    "    print('figure', @batches * 16 * 256 / (time.monotonic() - began), flush=True)\n"
    "llm.generate(prompts, some, use_tqdm=False)\n"
)
GENERATE: Final = ENGINE + "for _ in range(10):\n    generate()\n"
TURNS: Final = ENGINE + "import os\nprint('ready', os.getpid(), flush=True)\nfor _ in sys.stdin:\n    generate()\n"
MODELS: Final[dict[str, tuple[dict[str, object], int]]] = {
    "tiny": ({}, 4),
    "8b": (
        {
            "hf_overrides": {
                "hidden_size": 4096,
                "intermediate_size": 14336,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
            },
            "dtype": "bfloat16",
            "enforce_eager": False,
            "gpu_memory_utilization": 0.4,
        },
        2,
    ),
}
"""Each model's settings, and how many batches of 16 requests make a figure: some seconds."""
MOST_SPAWN: Final = 1.03
LEAST_TOK_S: Final = 0.99
WAYS: Final = {"bare": None, "watched": (), "connector": ("--connector",)}


@dataclass(kw_only=True)
class Turns:
    """What the turns of one engine gave."""

    figures: dict[str, list[float]] = field(default_factory=lambda: {"bare": [], "watched": []})
    watched_s: float = 0.0
    """How long the watched turns took together."""
    used_s: float = 0.0
    """Processor time of the supervisor and its helpers in these."""


def watched(program: str, folder: str, *options: str) -> list[str]:
    """Return the command that runs a program under ``crashcart watch``."""
    out = f"{folder}/run"
    return [sys.executable, "-m", "harness", "watch", "--out", out, *options, "--", sys.executable, "-c", program]


def environment() -> dict[str, str]:
    """Return the environment of both."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS), "VLLM_LOGGING_LEVEL": "ERROR"}


def figure(program: str, way: str) -> float:
    """Run a program one way and return the figure that it printed, the median if there are several."""
    with tempfile.TemporaryDirectory(prefix="cc-") as folder:
        options = WAYS[way]
        command = [sys.executable, "-c", program] if options is None else watched(program, folder, *options)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=folder
        ) as process:
            try:
                out, err = process.communicate()
            except KeyboardInterrupt:
                process.terminate()  # a supervisor that is killed leaves its program behind
                raise
        if process.returncode:
            sys.exit(f"the program ended with exit code {process.returncode}: {err[-2000:]}")
    return statistics.median(float(line.split()[1]) for line in out.splitlines() if line.startswith("figure "))


def with_model(program: str, model: str) -> str:
    """Return a program with a model's settings in it."""
    settings, batches = MODELS[model]
    return program.replace("@settings", repr(settings)).replace("@batches", str(batches))


def whole(found: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return the rounds in which every way has its figure: an interrupt ends a measurement with these."""
    rounds = min(map(len, found.values()))
    return {way: figures[:rounds] for way, figures in found.items()}


def take_turns(rounds: int, model: str) -> Turns:
    """Run one engine under one supervisor and return the figures of the turns with and without it; see `whole`."""
    found = Turns()
    with (
        tempfile.TemporaryDirectory(prefix="cc-") as folder,
        subprocess.Popen(
            watched(with_model(TURNS, model), folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd=folder,
        ) as supervisor,
    ):
        try:
            _turns(supervisor, rounds, found)
        except KeyboardInterrupt:
            supervisor.terminate()
        finally:
            supervisor.send_signal(signal.SIGCONT)  # Popen waits for it, whatever went wrong
    found.figures = whole(found.figures)
    return found


def _turns(supervisor: subprocess.Popen[str], rounds: int, found: Turns) -> None:
    assert supervisor.stdin is not None and supervisor.stdout is not None  # noqa: S101, PT018 - they are pipes
    lines = (line.split() for line in supervisor.stdout)
    engine = os.pidfd_open(int(_answer(lines, "ready")))
    threading.Thread(target=_continue_after, args=(engine, supervisor), daemon=True).start()
    for number in range(2 * rounds):
        way = "bare" if (number + number // 2) % 2 else "watched"  # each goes first as often as the other
        supervisor.send_signal(signal.SIGSTOP if way == "bare" else signal.SIGCONT)
        time.sleep(0.05)
        began, used = time.monotonic(), _used_s(supervisor.pid)
        supervisor.stdin.write("go\n")
        supervisor.stdin.flush()
        found.figures[way].append(float(_answer(lines, "figure")))
        if way == "watched":
            found.watched_s += time.monotonic() - began
            found.used_s += _used_s(supervisor.pid) - used
        print(f"\rturn {number + 1} of {2 * rounds}: {way} {found.figures[way][-1]:.1f}   ", end="", file=sys.stderr)
    supervisor.send_signal(signal.SIGCONT)
    supervisor.stdin.close()
    supervisor.stdout.read()


def _used_s(supervisor: int) -> float:
    """Return the processor time of the supervisor, of the helpers that it has reaped, and of those that read GPUs."""
    own = psutil.Process(supervisor)
    used = sum(own.cpu_times()[:4])  # its own and its reaped children's, in user mode and in the kernel
    for child in own.children():
        with suppress(psutil.NoSuchProcess):
            if any(word.startswith("harness.probes.") for word in child.cmdline()):
                used += sum(child.cpu_times()[:2])
    return used


def _answer(lines: Iterator[list[str]], word: str) -> str:
    """Return what the engine says with a word, or end with it."""
    found = next((words[1] for words in lines if words[:1] == [word]), None)
    return found if found is not None else sys.exit(f"the engine ended before it said {word!r}")


def _continue_after(engine: int, supervisor: subprocess.Popen[str]) -> None:
    """Let the supervisor notice that the engine has ended: stopped, it holds the pipe open that its words come by."""
    select.select([engine], [], [])
    os.close(engine)
    while supervisor.poll() is None:
        supervisor.send_signal(signal.SIGCONT)  # again, as the next turn may stop it
        time.sleep(0.1)


def interval(some: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """Return the ratio of the medians and its 5th and 95th percentile by bootstrap."""
    chance = random.Random(1)
    ratios = sorted(
        statistics.median(chance.choices(some, k=len(some))) / statistics.median(chance.choices(others, k=len(others)))
        for _ in range(2000)
    )
    return statistics.median(some) / statistics.median(others), ratios[100], ratios[1900]


def paired(some: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of the ratios of each to its neighbour, and its 5th and 95th percentile by bootstrap."""
    chance = random.Random(1)
    pairs = [one / other for one, other in zip(some, others, strict=True)]
    medians = sorted(statistics.median(chance.choices(pairs, k=len(pairs))) for _ in range(2000))
    return statistics.median(pairs), medians[100], medians[1900]


def take_rounds(what: str, rounds: int, model: str) -> dict[str, list[float]]:
    """Run every way once a round and return the figures of each; see `whole`."""
    program = SPAWNS if what == "spawns" else with_model(GENERATE, model)
    ways = list(WAYS) if what == "spawns" else ["bare", "watched"]
    found: dict[str, list[float]] = {way: [] for way in ways}
    with suppress(KeyboardInterrupt):
        for number in range(rounds):
            for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
                found[way].append(figure(program, way))
                print(f"\rround {number + 1} of {rounds}: {way} {found[way][-1]:.2f}   ", end="", file=sys.stderr)
    return whole(found)


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["spawns", "vllm", "turns"])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--model", choices=MODELS, default="tiny")
    options = parser.parse_args()
    spawns = options.what == "spawns"
    if not spawns and find_spec("vllm") is None:
        sys.exit("vLLM is not installed here: make stack")
    rounds = options.rounds or {"spawns": 15, "vllm": 5, "turns": 40}[options.what]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    turns = take_turns(rounds, options.model) if options.what == "turns" else None
    found = turns.figures if turns is not None else take_rounds(options.what, rounds, options.model)
    print(file=sys.stderr)
    rounds = len(found["bare"])
    if not rounds:
        sys.exit("it was interrupted before the end of a round")
    against = interval if turns is None else paired
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    print(f"{machine}, {rounds} rounds{'' if spawns else f', model {options.model}'}")
    print(f"| way | {'2,000 spawns, s' if spawns else 'output tok/s'} | against bare | 90% interval |")
    print("|---|---|---|---|")
    for way, figures in found.items():
        ratio, low, high = against(figures, found["bare"])
        print(f"| {way} | {statistics.median(figures):.3f} | {ratio:.3f} | {low:.3f} to {high:.3f} |")
    if turns is not None:
        share = 100 * turns.used_s / turns.watched_s
        print(f"the supervisor and its helpers used {share:.2f}% of one processor in watched turns")
    ratio = against(found["watched"], found["bare"])[0]
    good, promise = (ratio <= MOST_SPAWN, f"≤ {MOST_SPAWN}") if spawns else (ratio >= LEAST_TOK_S, f"≥ {LEAST_TOK_S}")
    print(f"watched against bare {ratio:.3f}: {'holds' if good else 'does not hold'} ({promise})")


if __name__ == "__main__":
    main()
