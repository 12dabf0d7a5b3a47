"""`/metrics` once more, on a port of its own that asks for no key.

For a Prometheus beside the gateway on a private network: on the public port the metrics need an admin's key as soon as
there are keys. A thread of the process that serves, or of the one above the workers, answers.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hearth_telemetry.metrics import CONTENT_TYPE, exposition


class _Handler(BaseHTTPRequestHandler):
    timeout = 10  # seconds for a request to come, so that nobody holds a thread

    def do_GET(self) -> None:
        if self.path != "/metrics":
            self.send_error(404)
            return
        body = exposition()
        self.send_response(200)
        self.send_header("content-type", CONTENT_TYPE)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: it is asked every few seconds."""


def serve_metrics(host: str, port: int) -> ThreadingHTTPServer:
    """Begin; `shutdown` of what this gives ends it. Raises OSError when the port cannot be had."""
    server = ThreadingHTTPServer((host, port), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
