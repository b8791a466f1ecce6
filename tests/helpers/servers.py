"""Web servers on this machine."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serve(folder: str | Path) -> Iterator[str]:
    """Serve a folder; gives its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args) -> None:
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with running(handler) as address:
        yield address


@contextmanager
def running(handler) -> Iterator[str]:
    """Run a handler of requests; gives its address."""
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


class FileServer:
    """Files by path, served with ranges, and whatever may go wrong on the way.

    Attributes:
        files (dict[str, bytes]): Content by path, such as ``'/w.pth'``.
        etags (dict[str, str]): ``ETag`` by path; without one a file has none.
        redirects (dict[str, str]): Path to path.
        cuts (list[int]): Bytes after which the next connections are cut; emptied one by one.
        pause (float): Seconds to wait before every block of 16 KiB.
        requests (list[tuple[str, str | None]]): Paths that were asked for, and their ranges.
        sent (int): Bytes of content.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.cuts: list[int] = []
        self.pause = 0.0
        self.requests: list[tuple[str, str | None]] = []
        self.sent = 0

    @contextmanager
    def run(self) -> Iterator[str]:
        """Serve; gives the address."""
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *args) -> None:
                pass

        with running(Handler) as address:
            yield address

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        path, wanted = request.path.partition('?')[0], request.headers.get('Range')
        self.requests.append((path, wanted))
        if path in self.redirects:
            request.send_response(302)
            request.send_header('Location', self.redirects[path])
            request.send_header('Content-Length', '0')
            request.end_headers()
            return
        content, etag = self.files.get(path), self.etags.get(path)
        if content is None:
            request.send_error(404)
            return
        start = 0
        if wanted and etag and request.headers.get('If-Range') == etag:
            start = int(wanted.removeprefix('bytes=').removesuffix('-'))
        if start >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        if start:
            span = f'bytes {start}-{len(content) - 1}/{len(content)}'
            request.send_header('Content-Range', span)
        if etag:
            request.send_header('ETag', etag)
        request.send_header('Content-Length', str(len(content) - start))
        request.end_headers()
        end = start + self.cuts.pop(0) if self.cuts else len(content)
        for place in range(start, min(end, len(content)), 2**14):
            time.sleep(self.pause)
            block = content[place : min(place + 2**14, end)]
            try:
                request.wfile.write(block)
            except OSError:  # the other side has gone
                return
            self.sent += len(block)
