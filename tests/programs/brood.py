"""A brood of short-lived processes, three levels deep, each reaped by its own parent; says what each one came to.

Arguments: how many leaves, how long each lives (seconds), and the seed of the exit codes and signals. The truth is
written to stdout as one JSON object, pid to exit code (negative for a signal).
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGUSR1)
PER_MIDDLE = 10


def leaf(life_s: float, outcome: int) -> int:
    """Fork a leaf that lives for a while and ends as told; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    time.sleep(life_s)
    if outcome < 0:
        signal.signal(-outcome, signal.SIG_DFL) if -outcome != signal.SIGKILL else None
        os.kill(os.getpid(), -outcome)
        time.sleep(5)
    os._exit(outcome)


def middle(count: int, life_s: float, seed: int, write: int) -> None:
    """Fork leaves one after another, reap each, and tell the truth through a pipe."""
    chance = random.Random(seed)
    for _ in range(count):
        outcome = chance.randrange(256) if chance.random() < 0.7 else -int(chance.choice(SIGNALS))
        pid = leaf(life_s, outcome)
        os.waitpid(pid, 0)
        os.write(write, f"{pid} {outcome}\n".encode())


def main() -> None:
    """Fork the middles, collect what they tell, print it."""
    leaves, life_s, seed = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    read, write = os.pipe()
    waiting = []
    for number in range(leaves // PER_MIDDLE):
        pid = os.fork()
        if pid == 0:
            middle(PER_MIDDLE, life_s, seed + number, write)
            os._exit(0)
        waiting.append(pid)
        if len(waiting) == 4:
            os.waitpid(waiting.pop(0), 0)
    for pid in waiting:
        os.waitpid(pid, 0)
    os.close(write)
    with os.fdopen(read) as lines:
        print(json.dumps({pid: int(outcome) for pid, outcome in (line.split() for line in lines)}))


if __name__ == "__main__":
    main()
