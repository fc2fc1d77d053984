"""A daemon that acts on signals and otherwise waits in sigwait: anybody may send one."""

from __future__ import annotations

import signal

WANTED = {signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM}


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, WANTED)
    print("ready", flush=True)
    while signal.sigwait(WANTED) != signal.SIGTERM:
        print("reloaded", flush=True)


if __name__ == "__main__":
    main()
