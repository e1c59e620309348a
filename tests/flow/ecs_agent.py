"""Stands where the ECS agent stands in a container, and answers as it does."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Agent:
    """Notes what it is asked; `answers` holds what it says before it agrees."""

    def __init__(self):
        self.asked = []
        self.answers = []
        asked, answers = self.asked, self.answers

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                asked.append((self.path, json.loads(body)))
                agreed = {"protection": {"TaskArn": "arn", **json.loads(body)}}
                status, said = answers.pop(0) if answers else (200, agreed)
                data = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/abc"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
