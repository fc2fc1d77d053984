"""An HTTP server that nobody asks anything: idle in poll on its listening socket."""

from __future__ import annotations

from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


def main() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
