"""A web server of a test's own: what it answers is a handler's, how it is started and ended stands here."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Stub(BaseHTTPRequestHandler):
    """A handler that answers with whole texts, and logs nothing."""

    def reply(self, status, kind, text):
        data = text if isinstance(text, bytes) else text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextmanager
def serving(handler: type[Stub]) -> Iterator[int]:
    """Serve on a free port of this machine while this lasts; the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()  # its end waits for one turn
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
