"""A handler of a single-threaded HTTP server asks its own server: bites callbacks behind a single worker."""

from __future__ import annotations

import os
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"7"
        if self.path == "/total":
            with urllib.request.urlopen(f"http://{self.headers['Host']}/part") as part:
                body = part.read()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    print(f"suspect pid {os.getpid()}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/total") as answer:
        print("passed", answer.read(), flush=True)


if __name__ == "__main__":
    main()
