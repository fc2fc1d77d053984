"""py-spy: Python stacks of a live process without its help."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def find_py_spy() -> str | None:
    """Return the py-spy of this environment, or the one on the PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")
