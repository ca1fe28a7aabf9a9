#!/usr/bin/env python3
"""A governance API on a free port of 127.0.0.1 that takes whatever is posted, until a signal ends it."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.startswith("/v1/events"):
            self.answer(202, {"accepted": len(body["events"]) if self.path.endswith("/batch") else 1})
        elif self.path.endswith("/close"):
            self.answer(200, {"run_id": self.path.split("/")[-2], "state": "closed"})
        else:
            self.answer(201, {"run_id": body["run_id"], "state": "open"})

    def answer(self, status, value):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        """Says nothing: what was refused is in the engine's report."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
