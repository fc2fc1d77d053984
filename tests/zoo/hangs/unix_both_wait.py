"""Client and server each wait for the other to speak first: bites protocols whose greeting was optional once."""

from __future__ import annotations

import os
import socket


def main() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    child = os.fork()
    if child == 0:
        ours.close()
        request = theirs.recv(100)
        theirs.sendall(b"answer to " + request)
        os._exit(0)
    theirs.close()
    print(f"suspect pid {os.getpid()}\nsuspect pid {child}", flush=True)
    greeting = ours.recv(100)
    ours.sendall(b"request after " + greeting)
    print("passed", ours.recv(100), flush=True)
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
