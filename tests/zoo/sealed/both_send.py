"""Two ranks send first and both buffers fill up: bites exchanges whose messages once were small."""

from __future__ import annotations

import os
import socket

MESSAGE = b"x" * (64 << 20)


def exchange(peer: socket.socket) -> None:
    peer.sendall(MESSAGE)
    got = 0
    while got < len(MESSAGE):
        got += len(peer.recv(1 << 20))


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = os.fork()
        if child == 0:
            address = server.getsockname()
            server.close()
            with socket.create_connection(address) as peer:
                exchange(peer)
            os._exit(0)
        peer, _ = server.accept()
    print(f"suspect pid {os.getpid()}\nsuspect pid {child}", flush=True)
    with peer:
        exchange(peer)
    os.waitpid(child, 0)
    print("passed", flush=True)


if __name__ == "__main__":
    main()
