"""A vLLM server loads its model, starts its engine and then waits for requests that do not come."""

from __future__ import annotations

import os
import tempfile


def main() -> None:
    from scenarios.programs.vllm_server import start_server

    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("CRASHCART_CACHE", folder)
        server = start_server()
        server.wait_ready()
        print("ready", flush=True)
        server.process.wait()


if __name__ == "__main__":
    main()
