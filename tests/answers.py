"""Answers of the payments API, and a real server that gives them."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ingest.payments_api import PaymentsApi

START = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
COLUMNS = ["trans_num", "amt"]


def answer(*trans_nums):
    rows = [[trans_num, 1.5] for trans_num in trans_nums]
    return json.dumps({"columns": COLUMNS, "index": list(range(len(rows))), "data": rows}).encode()


@contextmanager
def server(*replies):
    """A real server: each connection gets the next of ``replies``, as bytes or from a function."""
    left = list(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            reply = left.pop(0) if len(left) > 1 else left[0]
            reply(self.wfile) if callable(reply) else self.wfile.write(reply)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/current-transactions?of=hush"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def ok(body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def real_api(url, timeout_seconds=5.0):
    return PaymentsApi(
        url, timeout_seconds=timeout_seconds, max_body_bytes=10_000, clock=lambda: START
    )
