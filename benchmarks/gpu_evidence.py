"""Keeps the records of runs on GPUs and makes their page. ``make gpu-evidence RUN=DIR NAME=gpu1 TITLE="…"``.

Without a run, the page is made again from what is kept. ``--overhead FILE`` takes the output of ``overhead.py``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from harness.errors import ExitCode, RecordError
from reports.hardware import OVERHEAD, keep_all, page

ROOT: Final = Path(__file__).resolve().parent.parent


def main() -> None:
    """Read the options, keep the run if one is named, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name", help="of folder and page, such as gpu1")
    parser.add_argument("title", help="heading of the page")
    parser.add_argument(
        "--run", type=Path, nargs="+", help="the run directories; what was kept under the name is replaced"
    )
    parser.add_argument("--note", action="append", default=[], help="a paragraph for the head of the page; kept")
    parser.add_argument("--overhead", type=Path, help="output of benchmarks/overhead.py on the same machine")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "evidence")
    options = parser.parse_args()
    folder: Path = options.folder / options.name
    try:
        if options.run is not None:
            keep_all(options.run, folder, options.note)
        if options.overhead is not None:
            lines = options.overhead.read_text().replace("\r", "\n").splitlines()
            (folder / OVERHEAD).write_text("".join(f"{line.rstrip()}\n" for line in lines if line.strip()))
        (options.folder / f"{options.name}.md").write_text(page(folder, options.title))
    except (RecordError, OSError) as error:
        sys.stderr.write(f"gpu_evidence: {error}\n")
        sys.exit(ExitCode.USAGE)


if __name__ == "__main__":
    main()
