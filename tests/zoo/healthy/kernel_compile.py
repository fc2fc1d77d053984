"""Waits in a declared phase for a compiler that computes and neither reads nor writes: a kernel's build at start-up."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import child


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        compiler = shutil.copy("/bin/bash", Path(folder) / "cicc")  # goes by the name of nvcc's slowest part
        program = f"end=$((SECONDS + {int(sys.argv[1])})); while [ $SECONDS -lt $end ]; do :; done"
        with child.phase("engine_start"):
            subprocess.run([compiler, "-c", program], stdout=subprocess.PIPE, check=False)
    print("passed", flush=True)


if __name__ == "__main__":
    main()
