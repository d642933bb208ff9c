"""The metrics of several processes: the supervisor reads the page of each, and serves all of them as one page.

Each process serves its page on a UNIX socket, in a folder that the supervisor made. Every sample gets the label `process`.
"""

from __future__ import annotations

import http.client
import io
import logging
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Any

from zmqservices.cli.metrics import address_of
from zmqservices.observability.binding import BACKLOG, bind

_log = logging.getLogger(__name__)

#: Seconds in which a process must send its page. The merged page leaves out a process that does not.
PAGE_TIMEOUT = 2.0

#: The most connections at once, and the seconds in which a client must send its whole request. A connection has one request, and
#: a thread.
MOST_CONNECTIONS, REQUEST_TIMEOUT = 16, 10.0
#: Seconds for which a further connection waits for one of these to end. Meanwhile the server cannot be stopped.
PATIENCE = 1.0

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")


class MergedMetrics:
    """Serves one page with the metrics of all processes.

    Binds its port when it is made; raises ConfigurationError if it cannot.
    """

    def __init__(self, address: str, processes: int) -> None:
        listener = bind(address)
        listener.setblocking(True)
        self._processes = processes
        self._folder = Path(tempfile.mkdtemp(prefix="zmqservices-"))
        self._server = _Server(listener, self.page)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    @classmethod
    def read(cls, settings: Mapping[str, Any], processes: int) -> MergedMetrics | None:
        """The server that METRICS_ADDRESS asks for; None without it."""
        address = address_of(settings)
        return None if address is None else cls(address, processes)

    def socket_of(self, number: int) -> str:
        """The UNIX socket of the process with this number, from 1."""
        return str(self._folder / f"{number}.sock")

    def start(self) -> None:
        """Begin to answer requests."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering requests."""
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def page(self) -> bytes:
        """One page, merged from those of all processes that answer in time."""
        pages: dict[int, str] = {}
        readers = [
            threading.Thread(target=self._read, args=(number, pages), daemon=True) for number in range(1, self._processes + 1)
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(PAGE_TIMEOUT + 1)
        return merged(dict(sorted(pages.items()))).encode()

    def _read(self, number: int, pages: dict[int, str]) -> None:
        with suppress(OSError, http.client.HTTPException):
            connection = _UnixConnection(self.socket_of(number))
            try:
                connection.request("GET", "/metrics")
                response = connection.getresponse()
                if response.status == 200:
                    pages[number] = response.read().decode()
            finally:
                connection.close()


def merged(pages: Mapping[int, str]) -> str:
    """One page: each metric once, with the samples of all processes; each sample has the label `process`."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for process, page in pages.items():
        metric = ""
        is_new = True
        for line in page.splitlines():
            if line.startswith("# "):
                name = line.split(" ", 3)[2]
                if name != metric:
                    metric, is_new = name, name not in heads
                    samples.setdefault(metric, [])
                if is_new:
                    heads.setdefault(metric, []).append(line)
            elif found := _SAMPLE.fullmatch(line):
                labels = f'process="{process}"' + (f",{found['labels']}" if found["labels"] else "")
                samples[metric].append(f"{found['name']}{{{labels}}} {found['value']}")
    lines = [
        "# HELP zmqservices_processes Processes whose metrics are on this page.",
        "# TYPE zmqservices_processes gauge",
        f"zmqservices_processes {len(pages)}",
    ]
    for metric, head in heads.items():
        lines += [*head, *samples[metric]]
    return "\n".join(lines) + "\n"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PAGE_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(self, listener: socket.socket, page: Callable[[], bytes]) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.page = page
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Called with an accepted connection. Closes it if MOST_CONNECTIONS are open and none of them ends within PATIENCE."""
        if not self._free.acquire(timeout=PATIENCE):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection. Runs in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        _log.debug("a client of the metrics page disconnected", exc_info=True)


class _TimedReader(io.RawIOBase):
    """Reads from a connection until REQUEST_TIMEOUT seconds have passed in all, however many reads there are."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._end = monotonic() + REQUEST_TIMEOUT

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._end - monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(left)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(REQUEST_TIMEOUT)


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_TIMEOUT
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_TimedReader(self.connection))

    def do_GET(self) -> None:
        is_page = self.path.partition("?")[0] == "/metrics"
        body = self.server.page() if is_page else b"the metrics are at /metrics\n"
        self.send_response(200 if is_page else 404)
        self.send_header("Content-Type", CONTENT_TYPE if is_page else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        _log.debug(format, *args)
