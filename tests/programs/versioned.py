"""A child program that fails as the installed release of a small package says."""

from __future__ import annotations

import time
from importlib import import_module

from harness import child


def main() -> None:
    """Mark the release and whether it is broken, and say the nonce; ``slow`` lets a test kill us meanwhile."""
    probe = import_module("ccprobe")
    if child.params()["slow"] == "yes":
        child.mark("slow")
        time.sleep(3)
    child.mark("seen", version=probe.VERSION, broken=probe.BROKEN, tok_s=probe.SPEED)
    child.finish()


if __name__ == "__main__":
    main()
