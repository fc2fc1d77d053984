"""Runs a command as its child and records how it ended, and whether its output holds the stated failure."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

from harness import child

READ_MIB = 16


def describe(code: int) -> str:
    """Return ``exit N`` or the name of the signal."""
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name


def output(path: Path) -> str:
    """Return the end of the output, as far as it is read."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - (READ_MIB << 20)))
        return stream.read().decode(errors="replace")


def main() -> None:
    """Run the command of the environment."""
    spec = json.loads(os.environ["CRASHCART_COMMAND"])
    path = Path("command.out").absolute()
    with path.open("wb") as out, child.phase("command"):
        try:
            done = subprocess.run(
                spec["argv"], stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=spec["cwd"],
                check=False,
            )  # fmt: skip
            how = describe(done.returncode)
        except OSError as error:
            how = f"not started: {error.strerror}"
    found = re.search(spec["pattern"], output(path)) if spec["pattern"] else None
    child.mark("ended", how=how, pattern=spec["pattern"], matched=found[0][:200] if found else None)
    print(output(path)[-4000:])
    child.finish()


if __name__ == "__main__":
    main()
