"""SIGKILL of crashcart at 100 random moments: is the record readable each time, and are the survivors named?

``python benchmarks/supervisor_killed.py [--moments 100] [--seed 1]``. At each moment the watched tree has up to four
sleepers, among them one in a session of its own and one without an environment; who lives is found without crashcart.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.killed import BEYOND, Killed, kill_and_look, settle_s  # noqa: E402 - runs from a checkout


def main() -> None:
    """Parse the command line, kill so often, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    found: list[Killed] = []
    with tempfile.TemporaryDirectory(prefix="cc-", dir="/tmp") as name:
        Path(name, "first").mkdir()
        settles = settle_s(Path(name, "first"))
        print(f"the whole tree lives after {settles:.2f} s")
        for number in range(options.moments):
            folder = Path(name) / str(number)
            folder.mkdir()
            at = moments.uniform(0, BEYOND * settles)
            killed = kill_and_look(at, folder)
            if killed.wrong:
                print(f"moment {number} at {at:.3f} s: {killed.wrong}", flush=True)
            found.append(killed)
    wrong = [killed for killed in found if killed.wrong]
    written = [killed for killed in found if killed.events]
    print(f"{len(found)} moments (seed {options.seed}): {len(written)} after the first event was recorded")
    print(f"records readable: {sum(killed.readable for killed in found)} of {len(found)}, ", end="")
    print(f"with a torn last line {sum(killed.torn for killed in found)}")
    alive = sum(len(killed.alive) for killed in found)
    named = sum(len(killed.alive & {one.key.pid for one in killed.survivors}) for killed in found)
    print(f"survivors named: {named} of {alive}; at {sum(killed.looks > 1 for killed in found)} moments ", end="")
    print("one was just being started and was named by a later look")
    print("holds" if not wrong else f"does not hold at {len(wrong)} moments")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
