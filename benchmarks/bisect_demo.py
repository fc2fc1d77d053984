"""Three bisections of real things on this machine: a release, a knob, a commit. ``python benchmarks/bisect_demo.py``.

1. Which release of verl fixed `actor_gc`, among all releases that the package index has.
2. Which of a dozen and more settings makes one duplicate request kill a vLLM engine.
3. Which of 200 commits brought a bug that shows in one run of three; commit and coins are drawn anew each time.

Ends with 0 if all three named what is known to be right. Takes some minutes, most of them in the engines of the second.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
COMMITS: Final = 200
RATE: Final = "1/3"
OFF: Final = "VLLM_DISABLE_REQUEST_ID_RANDOMIZATION"
FIXED: Final = "0.4.0"
KNOBS: Final = """
[env.VLLM_LOGGING_LEVEL]
failing = "DEBUG"
passing = "INFO"
[env.VLLM_CPU_KVCACHE_SPACE]
failing = "2"
passing = "1"
[env.VLLM_LOG_STATS_INTERVAL]
failing = "1"
passing = "10"
[env.VLLM_HTTP_TIMEOUT_KEEP_ALIVE]
failing = "30"
passing = "5"
[env.VLLM_KEEP_ALIVE_ON_ENGINE_DEATH]
failing = "0"
[env.VLLM_DISABLE_REQUEST_ID_RANDOMIZATION]
failing = "1"
passing = "0"
[env.OMP_NUM_THREADS]
failing = "2"
[env.TOKENIZERS_PARALLELISM]
failing = "true"
passing = "false"
[env.PYTHONHASHSEED]
failing = "1"
[env.MALLOC_ARENA_MAX]
failing = "2"
[env.PYTHONUNBUFFERED]
failing = "1"
[env.VLLM_ENGINE_READY_TIMEOUT_S]
failing = "300"
[axis.prefix_caching]
failing = "off"
passing = "on"
[axis.chunked_prefill]
failing = "off"
passing = "on"
[axis.max_num_seqs]
failing = "8"
passing = "16"
"""
PROGRAM: Final = """\
import random
import sys

import counter

if counter.loses_updates() and random.random() < {rate}:
    print("lost update")
    sys.exit(1)
"""


def bisect(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run ``crashcart bisect`` with its progress on stderr, and return its result."""
    command = [sys.executable, "-m", "harness", "bisect", "--json", "--out", str(folder), *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout.strip():
        return {"named": False, "sentence": f"crashcart bisect ended with {done.returncode} and no result", "runs": 0}
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def release(folder: Path) -> tuple[bool, dict[str, Any]]:
    """Find the release of verl that fixed `actor_gc`."""
    result = bisect(folder, "actor_gc", "--axis", "verl", "--first-fixed")
    return result.get("culprit") == FIXED, result


def knob(folder: Path) -> tuple[bool, dict[str, Any]]:
    """Find the setting that makes a duplicate request deadly."""
    listed = folder.with_name("knobs.toml")
    listed.write_text(KNOBS)
    cell = ("trigger=twice", "request_id=fixed", "id_randomisation=inherited")
    chosen = [part for value in cell for part in ("-p", value)]
    result = bisect(folder, "timeout_retries", *chosen, "--knobs", str(listed))
    return result.get("members") == [OFF], result


def plant(repository: Path, bug: int) -> str:
    """Make a repository of 200 commits with the bug from one of them on; return that commit."""

    def git(*arguments: str) -> str:
        own = ["-c", "user.name=demo", "-c", "user.email=demo@example.invalid", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(repository), *own, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    repository.mkdir()
    git("init", "--quiet")
    (repository / "repro.py").write_text(PROGRAM.format(rate=RATE))
    culprit = ""
    for number in range(COMMITS):
        text = f'"""Change {number}."""\n\n\ndef loses_updates() -> bool:\n    return {number >= bug}\n'
        (repository / "counter.py").write_text(text)
        git("add", "--all")
        git("commit", "--quiet", "--message", f"change {number}")
        if number == bug:
            culprit = git("rev-parse", "HEAD")
    return culprit


def commit(folder: Path) -> tuple[bool, dict[str, Any]]:
    """Find a bug planted at a random commit, which fails in one run of three."""
    repository = folder.with_name("repository")
    bug = random.randint(1, COMMITS - 1)
    culprit = plant(repository, bug)
    ends = ["--git", str(repository), "--good", f"HEAD~{COMMITS - 1}", "--bad", "HEAD", "--pattern", "lost update"]
    result = bisect(folder, "command", *ends, "--", sys.executable, "repro.py")
    found = str(result.get("culprit"))
    print(f"planted at change {bug}, {culprit[:12]}", file=sys.stderr)
    return bool(found) and culprit.startswith(found), result


DEMOS: Final = {"release": release, "commit": commit, "knob": knob}


def main() -> int:
    """Run the demos and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", choices=list(DEMOS))
    parser.add_argument("--out", type=Path, help="where the records go; default: a new temporary folder")
    options = parser.parse_args()
    base = options.out or Path(tempfile.mkdtemp(prefix="crashcart-bisect-"))
    base.mkdir(parents=True, exist_ok=True)
    wrong = 0
    for name in options.only or DEMOS:
        begin = time.monotonic()
        right, result = DEMOS[name](base / name)
        wrong += not right
        word = "right" if right else "WRONG"
        print(
            f"{name}: {word}, {result['runs']} runs, {time.monotonic() - begin:.0f} s. {result['sentence']}", flush=True
        )
    print(f"records in {base}", file=sys.stderr)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
