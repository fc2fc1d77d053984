"""Imports the largest packages there are, in one fresh interpreter after another; the parent waits."""

from __future__ import annotations

import subprocess
import sys
import time

IMPORT = "import torch._dynamo, transformers, transformers.models.llama.modeling_llama"


def main() -> None:
    end = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end:
        subprocess.run([sys.executable, "-X", "frozen_modules=off", "-B", "-c", IMPORT], check=True)
    print("done", flush=True)


if __name__ == "__main__":
    main()
