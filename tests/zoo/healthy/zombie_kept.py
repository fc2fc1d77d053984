"""A server keeps dead children unreaped and listens on: zombies wait for nobody."""

from __future__ import annotations

import socket
import subprocess


def main() -> None:
    children = [subprocess.Popen(["true"]) for _ in range(3)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print("ready", len(children), flush=True)
        listener.accept()


if __name__ == "__main__":
    main()
