"""A job that serves HTTP on its own loopback: 10 MiB to fetch, an echo for what is sent, an answer without an end."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 40_960


class Service(BaseHTTPRequestHandler):
    """GET /content, GET /name, GET /hold; POST answers with what it got."""

    def do_GET(self) -> None:
        if self.path == "/hold":
            self.answer(b"some", of=1_000)
            self.rfile.read()
        else:
            self.answer({"/content": CONTENT}.get(self.path, b"chunk"))

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes, of: int = 0) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(of or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    """Many connections at once."""

    request_queue_size = 64


if __name__ == "__main__":
    server = Server(("127.0.0.1", int(sys.argv[1])), Service)
    print("listening", flush=True)
    server.serve_forever()
