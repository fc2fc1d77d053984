"""Runs the zoo under plain ``crashcart watch`` and says of each program whether the detector was right.

    python benchmarks/zoo.py hangs            every hang: found within 15 s of being there, class and suspect right?
    python benchmarks/zoo.py soak --minutes 60  every healthy program in turn, for so long in all: any false alarm?

``--group sealed`` takes only the programs that were kept from whoever wrote the detector; ``--only NAME`` one program.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.zoo.catalogue import CATALOGUE
from tests.zoo.programs import Program, build
from tests.zoo.watching import ALLOWED_S, Result, look


def show(result: Result, *, markdown: bool) -> str:
    """Return one line of the report."""
    program, wrong = result.program, result.wrong()
    found = ""
    if result.said:
        at, first = result.said[0]
        found = f"{first.suspicion}{' proved' if first.proved else ''} after {max(0.0, at - program.settle_s):.1f} s"
    if markdown:
        return f"| {program.name} | {program.group} | {found or 'nothing said'} | {wrong or 'as said'} |"
    return f"{'WRONG' if wrong else 'ok':5} {program.group:6} {program.name:24} {found:38} {wrong}"


def main() -> None:
    """Parse the command line, run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["hangs", "soak"])
    parser.add_argument("--group", choices=["open", "sealed"])
    parser.add_argument("--only", action="append")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    wanted = [
        program
        for program in CATALOGUE
        if program.kind == ("hang" if options.kind == "hangs" else "healthy")
        and options.group in {None, program.group}
        and (options.only is None or program.name in options.only)
        and not program.missing()
    ]
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
    seconds = options.minutes * 60 / max(1, len(wanted)) if options.kind == "soak" else None
    results = []
    for result in run_all(wanted, seconds):
        print(show(result, markdown=options.markdown), flush=True)
        results.append(result)
    wrong = [result for result in results if result.wrong()]
    print(f"{len(results) - len(wrong)} of {len(results)} right")
    sys.exit(bool(wrong))


def run_all(programs: Sequence[Program], seconds: float | None) -> Iterator[Result]:
    """Run the programs one after another, each for its share of the soak or as long as a hang may take."""
    with tempfile.TemporaryDirectory(prefix="zoo-") as name:
        folder = Path(name)
        for program in programs:
            build(program, folder)
            yield look(program, folder, seconds or program.settle_s + ALLOWED_S + 8)


if __name__ == "__main__":
    main()
